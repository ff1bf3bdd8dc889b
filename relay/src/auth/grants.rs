//! What a token lets its bearer do in which rooms.

use quip_protocol::RoomName;

/// Something that needs a grant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Permission {
    /// Become a member of a room, or read it.
    Join,
    /// Post in a room.
    Post,
    /// Create a room.
    Create,
    /// Delete messages of others, remove members.
    Moderate,
}

impl Permission {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Join, Self::Post, Self::Create, Self::Moderate];

    /// The claim in a token that grants it.
    pub fn claim(self) -> &'static str {
        match self {
            Self::Join => "join",
            Self::Post => "post",
            Self::Create => "create",
            Self::Moderate => "moderate",
        }
    }
}

/// What a token grants. Nothing is granted that it does not name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Grants([Box<[Pattern]>; 4]);

impl Grants {
    /// Every permission in every room.
    pub fn everything() -> Self {
        Self([(); 4].map(|()| [Pattern("*".into())].into()))
    }

    /// True when one of the permission's patterns matches the room.
    pub fn allows(&self, permission: Permission, room: &RoomName<'_>) -> bool {
        self.0[permission as usize].iter().any(|pattern| pattern.matches(room))
    }

    /// Sets the patterns of one permission.
    pub(super) fn set(&mut self, permission: Permission, patterns: Vec<Pattern>) {
        self.0[permission as usize] = patterns.into();
    }
}

/// Which rooms: `*`, or `namespace:name` where each part may end with `*`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pattern(Box<str>);

impl Pattern {
    /// Maximum patterns for one permission; each is checked for every room that is opened.
    pub(super) const MOST: usize = 64;

    /// Checks a pattern: with a letter in place of each star it must be a room's name.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let example = |part: &str| part.strip_suffix('*').map_or(part.to_owned(), |start| format!("{start}x"));
        let fits = text == "*"
            || text.split_once(':').is_some_and(|(namespace, name)| {
                RoomName::parse(&format!("{}:{}", example(namespace), example(name))).is_ok()
            });
        fits.then(|| Self(text.into()))
    }

    fn matches(&self, room: &RoomName<'_>) -> bool {
        let part_matches = |(pattern, part): (&str, &str)| match pattern.strip_suffix('*') {
            Some(start) => part.starts_with(start),
            None => part == pattern,
        };
        match self.0.split_once(':') {
            None => true,
            Some((namespace, name)) => {
                let parts = room.as_str().split_once(':').unwrap_or_default();
                part_matches((namespace, parts.0)) && part_matches((name, parts.1))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn patterns_match_by_part() {
        for (pattern, room, matches) in [
            ("*", "lobby:main", true),
            ("*:*", "lobby:main", true),
            ("lobby:*", "lobby:main", true),
            ("lobby:*", "lobby2:main", false),
            ("lobby:*", "a:lobby", false),
            ("lobby:main", "lobby:main", true),
            ("lobby:main", "lobby:main2", false),
            ("lobby:main", "lobby:mai", false),
            ("lobby:game-*", "lobby:game-7", true),
            ("lobby:game-*", "lobby:game", false),
            ("lob*:main", "lobby:main", true),
            ("lob*:main", "lobby:other", false),
            ("lob*:m*", "lob:m", true),
            ("*:main", "anything:main", true),
            ("*:main", "anything:domain", false),
        ] {
            let mut grants = Grants::default();
            grants.set(Permission::Post, vec![Pattern::parse(pattern).unwrap()]);
            let room = RoomName::parse(room).unwrap();
            assert_eq!(grants.allows(Permission::Post, &room), matches, "{pattern} {room:?}");
            assert!(!grants.allows(Permission::Moderate, &room), "one permission's grant is not another's");
        }
    }

    #[test]
    fn what_could_match_no_room_is_no_pattern() {
        for text in
            ["", "**", "lobby", "lobby*", "*lobby:main", "a:b:c", "a:*b", "a:**", "Lobby:*", "a:", ":a", "-*:a", "a :b"]
        {
            assert_eq!(Pattern::parse(text), None, "{text}");
        }
    }

    #[test]
    fn nothing_is_granted_by_default_and_everything_by_everything() {
        let room = RoomName::parse("lobby:main").unwrap();
        for permission in Permission::ALL {
            assert!(!Grants::default().allows(permission, &room));
            assert!(Grants::everything().allows(permission, &room));
        }
    }
}
