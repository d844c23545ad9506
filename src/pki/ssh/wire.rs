//! The SSH wire encoding (RFC 4251 section 5), as far as certificates and KRLs need it.

/// Writes fields one after the other.
pub(crate) struct Writer(Vec<u8>);

impl Writer {
    pub(crate) fn with_capacity(capacity: usize) -> Self {
        Self(Vec::with_capacity(capacity))
    }

    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    pub(crate) fn u8(&mut self, number: u8) {
        self.raw(&[number]);
    }

    pub(crate) fn u32(&mut self, number: u32) {
        self.raw(&number.to_be_bytes());
    }

    pub(crate) fn u64(&mut self, number: u64) {
        self.raw(&number.to_be_bytes());
    }

    pub(crate) fn string(&mut self, bytes: &[u8]) {
        self.string_of(|writer| writer.raw(bytes));
    }

    /// A string of what `content` writes. One of 4 GiB or more gets a length that the lint refuses.
    pub(crate) fn string_of(&mut self, content: impl FnOnce(&mut Self)) {
        let start = self.0.len();
        self.u32(0);
        content(self);
        let length = u32::try_from(self.0.len() - start - 4).unwrap_or(u32::MAX);
        self.0[start..start + 4].copy_from_slice(&length.to_be_bytes());
    }

    /// An `mpint` of an unsigned big-endian number: no leading zeros, but one where the first bit
    /// would be a sign.
    pub(crate) fn positive_mpint(&mut self, number: &[u8]) {
        let zeros = number.iter().take_while(|byte| **byte == 0).count();
        let number = &number[zeros..];
        self.string_of(|writer| {
            if number.first().is_some_and(|byte| byte & 0x80 != 0) {
                writer.raw(&[0]);
            }
            writer.raw(number);
        });
    }
}

/// Reads fields one after the other; `None` when they do not fit.
#[derive(Clone, Copy)]
pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) fn rest(&self) -> &'a [u8] {
        self.0
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_be_bytes)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }

    pub(crate) fn string(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.u32()?).ok()?;
        let (string, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(string)
    }

    /// The magnitude of a positive `mpint` in its shortest form.
    pub(crate) fn positive_mpint(&mut self) -> Option<&'a [u8]> {
        match self.string()? {
            [0, rest @ ..] if rest.first().is_some_and(|first| first & 0x80 != 0) => Some(rest),
            number @ [1..=0x7f, ..] => Some(number),
            _ => None,
        }
    }

    fn array<const LENGTH: usize>(&mut self) -> Option<[u8; LENGTH]> {
        let (array, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*array)
    }
}

/// The type name of a key or certificate, and the fields after it.
pub(crate) fn split_key(blob: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut reader = Reader::new(blob);
    let name = reader.string()?;
    Some((name, reader.rest()))
}
