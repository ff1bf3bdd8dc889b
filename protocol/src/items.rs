//! Byte strings and bounded lists that decode without allocating.

use std::{fmt, marker::PhantomData};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A borrowed byte string. On the wire: varint length, then the bytes.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Blob<'a>(pub &'a [u8]);

impl fmt::Debug for Blob<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Blob({} bytes)", self.0.len())
    }
}

impl Serialize for Blob<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Blob<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <&'de [u8]>::deserialize(deserializer).map(Blob)
    }
}

/// An item of an [`Items`] list.
pub trait Item<'a>: Serialize + Deserialize<'a> {
    /// Maximum items in one list.
    const MAX: usize;
}

/// A bounded list, kept in its encoded form.
///
/// On the wire: varint length in bytes, then the items one after the other. Decoding checks every
/// item and the bound, so iterating later cannot fail.
#[derive(Clone, PartialEq, Eq)]
pub struct Items<'a, T> {
    bytes: std::borrow::Cow<'a, [u8]>,
    of: PhantomData<T>,
}

impl<'a, T: Item<'a>> Items<'a, T> {
    /// The items in order.
    pub fn iter(&'a self) -> impl Iterator<Item = T> + 'a {
        let mut rest: &'a [u8] = &self.bytes;
        std::iter::from_fn(move || {
            let (item, tail) = postcard::take_from_bytes::<T>(rest).ok()?;
            rest = tail;
            Some(item)
        })
    }

    /// True when there are none.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    fn check(bytes: &'a [u8]) -> Result<(), &'static str> {
        let (mut rest, mut count) = (bytes, 0);
        while !rest.is_empty() {
            let (_, tail) = postcard::take_from_bytes::<T>(rest).map_err(|_| "a malformed item")?;
            if tail.len() == rest.len() {
                return Err("an item without bytes");
            }
            rest = tail;
            count += 1;
            if count > T::MAX {
                return Err("more items than allowed");
            }
        }
        Ok(())
    }
}

impl<T: Serialize> Items<'static, T> {
    /// Encodes a list.
    ///
    /// # Panics
    /// If an item cannot be serialised. All types of this crate can be.
    pub fn encode(items: impl IntoIterator<Item = T>) -> Self {
        let bytes = items.into_iter().fold(Vec::new(), |bytes, item| {
            postcard::to_extend(&item, bytes).expect("plain data serialises into a Vec")
        });
        Self { bytes: bytes.into(), of: PhantomData }
    }
}

impl<T> Default for Items<'_, T> {
    fn default() -> Self {
        Self { bytes: std::borrow::Cow::Borrowed(&[]), of: PhantomData }
    }
}

impl<T> fmt::Debug for Items<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Items({} bytes)", self.bytes.len())
    }
}

impl<T> Serialize for Items<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.bytes)
    }
}

impl<'de: 'a, 'a, T: Item<'a>> Deserialize<'de> for Items<'a, T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes: &'a [u8] = <&'de [u8]>::deserialize(deserializer)?;
        Self::check(bytes).map_err(de::Error::custom)?;
        Ok(Self { bytes: bytes.into(), of: PhantomData })
    }
}
