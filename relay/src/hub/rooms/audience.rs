//! Which followers of a conversation take its events from memory, and which of those need some. Pure.

/// The live followers of a conversation: those that take events from memory. The others read them from the store.
#[derive(Debug, Default)]
pub(super) struct Audience {
    live: usize,
    /// Those of them that have not taken everything.
    behind: usize,
    /// Counts the events.
    round: u64,
}

/// One follower's place in an audience.
#[derive(Debug, Default)]
pub(super) struct Place {
    live: bool,
    /// The round in which it took everything.
    done: Option<u64>,
    /// It was behind when the last sweep began, and has taken nothing since.
    waits: bool,
}

impl Audience {
    /// There is an event that nobody has taken.
    pub(super) fn event(&mut self) {
        self.behind = self.live;
        self.round += 1;
    }

    /// True when a live follower has not taken everything.
    pub(super) fn needs_memory(&self) -> bool {
        self.behind > 0
    }

    /// A follower took from memory what it could, or there is nothing for it to take. `done`: it has everything.
    pub(super) fn take(&mut self, place: &mut Place, done: bool) {
        self.leave(place);
        self.live += 1;
        self.behind += usize::from(!done);
        *place = Place { live: true, done: done.then_some(self.round), waits: false };
    }

    /// A follower takes nothing from memory from now on.
    pub(super) fn leave(&mut self, place: &mut Place) {
        self.behind -= usize::from(self.is_behind(place));
        self.live -= usize::from(place.live);
        *place = Place::default();
    }

    /// A sweep begins. A follower that was behind at the last one and has taken nothing since is blocked, and live no
    /// longer.
    pub(super) fn sweep(&mut self, place: &mut Place) {
        if self.is_behind(place) && std::mem::replace(&mut place.waits, true) {
            self.leave(place);
        }
    }

    fn is_behind(&self, place: &Place) -> bool {
        place.live && place.done != Some(self.round)
    }

    /// What is counted is what these are.
    #[cfg(test)]
    pub(super) fn assert_is<'a>(&self, places: impl Iterator<Item = &'a Place>) {
        let (mut live, mut behind) = (0, 0);
        for place in places {
            live += usize::from(place.live);
            behind += usize::from(self.is_behind(place));
        }
        assert_eq!((self.live, self.behind), (live, behind));
    }
}

impl Place {
    /// True while the follower takes events from memory.
    pub(super) fn is_live(&self) -> bool {
        self.live
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_needed_until_the_last_live_follower_has_everything() {
        let (mut audience, [mut a, mut b, mut reads]) = (Audience::default(), <[Place; 3]>::default());
        audience.event();
        assert!(!audience.needs_memory(), "nobody follows from memory");
        audience.take(&mut a, true);
        audience.take(&mut b, true);
        audience.leave(&mut reads);
        assert!(!audience.needs_memory());
        audience.event();
        audience.take(&mut a, true);
        assert!(audience.needs_memory());
        audience.take(&mut b, false);
        assert!(audience.needs_memory(), "it could not take all of it");
        audience.take(&mut b, true);
        assert!(!audience.needs_memory());
        audience.event();
        audience.take(&mut a, true);
        audience.leave(&mut b);
        assert!(!audience.needs_memory() && a.is_live() && !b.is_live());
        audience.assert_is([&a, &b, &reads].into_iter());
    }

    #[test]
    fn one_that_takes_nothing_for_a_whole_sweep_is_live_no_longer() {
        let (mut audience, [mut quick, mut blocked]) = (Audience::default(), <[Place; 2]>::default());
        audience.take(&mut quick, true);
        audience.take(&mut blocked, true);
        audience.sweep(&mut blocked);
        audience.event();
        for place in [&mut quick, &mut blocked] {
            audience.sweep(place);
            assert!(place.is_live(), "the event may have come just now");
        }
        audience.take(&mut quick, false);
        for place in [&mut quick, &mut blocked] {
            audience.sweep(place);
        }
        assert!(quick.is_live() && !blocked.is_live());
        audience.take(&mut quick, true);
        assert!(!audience.needs_memory());
        audience.take(&mut blocked, true);
        assert!(blocked.is_live(), "it reads again");
        audience.assert_is([&quick, &blocked].into_iter());
    }
}
