//! Reading a closed map: each key taken once, unknown keys refused.

use crate::{Error, Value};

/// The entries of an integer-keyed map that were not taken yet.
#[derive(Debug)]
pub struct Fields(Vec<(i64, Value)>);

impl Fields {
    /// Opens a decoded map.
    ///
    /// # Errors
    /// [`Error::Shape`] for anything but a map, [`Error::UnknownKey`] for a key that is not
    /// an integer.
    pub fn of(value: Value) -> Result<Self, Error> {
        let Value::Map(entries) = value else { return Err(Error::Shape("a map")) };
        entries
            .into_iter()
            .map(|(key, value)| match key.as_integer().and_then(|n| i64::try_from(n).ok()) {
                Some(key) => Ok((key, value)),
                None => Err(Error::UnknownKey("that is no integer".into())),
            })
            .collect::<Result<Vec<_>, _>>()
            .map(Self)
    }

    /// Takes any entry that is left.
    pub fn pop(&mut self) -> Option<(i64, Value)> {
        self.0.pop()
    }

    /// Takes the value under `key`, if there is one.
    pub fn optional(&mut self, key: i64) -> Option<Value> {
        let at = self.0.iter().position(|(k, _)| *k == key)?;
        Some(self.0.swap_remove(at).1)
    }

    /// Takes the value under `key`.
    ///
    /// # Errors
    /// [`Error::Missing`].
    pub fn required(&mut self, key: i64) -> Result<Value, Error> {
        self.optional(key).ok_or(Error::Missing(key))
    }

    /// Takes a byte string.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::WrongType`].
    pub fn bytes(&mut self, key: i64) -> Result<Vec<u8>, Error> {
        self.required(key)?.into_bytes().map_err(|_| Error::WrongType(key))
    }

    /// Takes a byte string of exactly `N` bytes.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::WrongType`].
    pub fn array<const N: usize>(&mut self, key: i64) -> Result<[u8; N], Error> {
        self.bytes(key)?.try_into().map_err(|_| Error::WrongType(key))
    }

    /// Takes a text string.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::WrongType`].
    pub fn text(&mut self, key: i64) -> Result<String, Error> {
        self.required(key)?.into_text().map_err(|_| Error::WrongType(key))
    }

    /// Takes an unsigned integer.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::WrongType`].
    pub fn uint(&mut self, key: i64) -> Result<u64, Error> {
        let integer = self.required(key)?.into_integer().map_err(|_| Error::WrongType(key))?;
        u64::try_from(integer).map_err(|_| Error::WrongType(key))
    }

    /// Takes a boolean.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::WrongType`].
    pub fn boolean(&mut self, key: i64) -> Result<bool, Error> {
        self.required(key)?.into_bool().map_err(|_| Error::WrongType(key))
    }

    /// Takes an array.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::WrongType`].
    pub fn items(&mut self, key: i64) -> Result<Vec<Value>, Error> {
        self.required(key)?.into_array().map_err(|_| Error::WrongType(key))
    }

    /// Takes a nested map.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::WrongType`].
    pub fn nested(&mut self, key: i64) -> Result<Self, Error> {
        Self::of(self.required(key)?).map_err(|_| Error::WrongType(key))
    }

    /// Takes the value under `key` where it is present and not `null`, read by `read`.
    ///
    /// # Errors
    /// The error of `read`.
    pub fn maybe<T>(
        &mut self,
        key: i64,
        read: impl FnOnce(&mut Self, i64) -> Result<T, Error>,
    ) -> Result<Option<T>, Error> {
        match self.0.iter().find(|(k, _)| *k == key) {
            None => Ok(None),
            Some((_, Value::Null)) => {
                self.optional(key);
                Ok(None)
            }
            Some(_) => read(self, key).map(Some),
        }
    }

    /// Refuses entries that were not taken.
    ///
    /// # Errors
    /// [`Error::UnknownKey`].
    pub fn finish(self) -> Result<(), Error> {
        match self.0.first() {
            None => Ok(()),
            Some((key, _)) => Err(Error::UnknownKey(key.to_string())),
        }
    }
}
