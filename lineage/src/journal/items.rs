//! Reads a record item by item. Records are megabytes of byte strings, which a general
//! CBOR reader would copy several times.

use portcullis_wire::Error;

use crate::put::{ARRAY, NULL, TEXT};

pub(super) fn malformed() -> Error {
    Error::Shape("a journal record")
}

/// The unread rest of a record.
pub(super) struct Items<'a>(pub(super) &'a [u8]);

impl<'a> Items<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], Error> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or_else(malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    /// Major type of the next item.
    pub(super) fn peek(&self) -> Option<u8> {
        self.0.first().map(|initial| initial >> 5)
    }

    /// The head of an item of a type: its argument, in its shortest form.
    pub(super) fn head(&mut self, major: u8, required: Option<u64>) -> Result<u64, Error> {
        let [initial] = *self.take(1)? else { return Err(malformed()) };
        let (additional, width) = match initial & 0x1f {
            small @ 0..24 => (u64::from(small), 0),
            24 => (0, 1),
            25 => (0, 2),
            26 => (0, 4),
            27 => (0, 8),
            _ => return Err(malformed()),
        };
        let bytes = self.take(width)?;
        let argument = bytes.iter().fold(additional, |value, byte| value << 8 | u64::from(*byte));
        let shortest = match width {
            0 => true,
            1 => argument >= 24,
            width => argument >> (width.saturating_mul(4)) != 0,
        };
        let fits = initial >> 5 == major && shortest && required.is_none_or(|required| required == argument);
        if fits { Ok(argument) } else { Err(malformed()) }
    }

    pub(super) fn string(&mut self, major: u8) -> Result<Vec<u8>, Error> {
        let length = usize::try_from(self.head(major, None)?).map_err(|_| malformed())?;
        self.take(length).map(<[u8]>::to_vec)
    }

    pub(super) fn array<T>(&mut self, mut read: impl FnMut(&mut Self) -> Result<T, Error>) -> Result<Vec<T>, Error> {
        let count = self.head(ARRAY, None)?;
        (0..count).map(|_| read(self)).collect()
    }

    pub(super) fn text_or_null(&mut self) -> Result<Option<String>, Error> {
        if self.0.first() == Some(&NULL) {
            self.take(1)?;
            return Ok(None);
        }
        String::from_utf8(self.string(TEXT)?).map(Some).map_err(|_| malformed())
    }

    /// Nothing follows.
    pub(super) const fn finish(&self) -> Result<(), Error> {
        if self.0.is_empty() { Ok(()) } else { Err(Error::Shape("a journal record")) }
    }
}
