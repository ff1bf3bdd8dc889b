//! Devices whose send numbers were not used for long.

use std::ops::Bound;

use quip_core::{
    Kind as _, SendsRecord, Timestamp,
    record::{SendsKey, behind},
};

use crate::{ReadError, engine::Snapshot};

/// A page of devices in conversations whose send numbers were not used for long.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Expired {
    /// Where their numbers are, in order of the keys.
    pub devices: Vec<SendsKey>,
    /// Where to go on (exclusive); `None` when there are no more.
    pub next: Option<SendsKey>,
}

/// The parts of one device's numbers.
struct Device {
    /// Its key, without the place of a part.
    key: Vec<u8>,
    /// The latest part.
    latest: SendsRecord,
    /// A part cannot be read.
    is_damaged: bool,
}

/// Looks at about `looks` records behind `after`, whole devices only, for those that were not used since `before`.
pub(crate) fn expired(
    rows: &Snapshot,
    after: Option<&SendsKey>,
    before: Timestamp,
    looks: usize,
) -> Result<Expired, ReadError> {
    let first = after.map_or_else(|| SendsRecord::PREFIX.to_vec(), |key| behind(&SendsRecord::key(key)));
    let end = behind(SendsRecord::PREFIX);
    let (mut page, mut device) = (Expired::default(), None);
    for (looked, row) in rows.range(Bound::Included(&first), Bound::Excluded(&end)).enumerate() {
        let (stored, value) = row.map_err(|error| ReadError::engine(SendsRecord::NAME, &first, error))?;
        let Some((_, key)) = stored.split_last() else { continue };
        let mut current = match device.take() {
            Some(device) if is_of(&device, key) => device,
            other => {
                let last = other.and_then(|device| page.add(&device, before));
                if looked >= looks && last.is_some() {
                    page.next = last;
                    return Ok(page);
                }
                Device { key: key.to_vec(), latest: SendsRecord::default(), is_damaged: false }
            }
        };
        match SendsRecord::decode(&value) {
            Ok(part) if part.last >= current.latest.last => current.latest = part,
            Ok(_) => {}
            Err(_) => current.is_damaged = true,
        }
        device = Some(current);
    }
    device.and_then(|device| page.add(&device, before));
    Ok(page)
}

fn is_of(device: &Device, key: &[u8]) -> bool {
    device.key == key
}

impl Expired {
    /// Adds a device, if it is one. What is damaged stays as it is: commands that need it are refused. Gives its key.
    fn add(&mut self, device: &Device, before: Timestamp) -> Option<SendsKey> {
        let key = SendsRecord::read_key(&device.key)?;
        if !device.is_damaged && device.latest.last_used() < before {
            self.devices.push(key.clone());
        }
        Some(key)
    }
}
