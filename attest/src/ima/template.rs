//! The structure of an entry's data (`Documentation/security/IMA-templates.rst` of
//! Linux): a template is a sequence of length-prefixed fields.

use std::sync::Arc;

/// Largest number of fields of a custom template (`IMA_TEMPLATE_NUM_FIELDS_MAX`).
const MAX_FIELDS: usize = 15;

/// A field of template data, by the kernel's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the kernel's names; shapes are those of Form")]
pub enum Field {
    Digest,
    Name,
    DigestNg,
    DigestNgV2,
    NameNg,
    Signature,
    Buffer,
    AppendedDigest,
    AppendedSignature,
    EvmSignature,
    XattrNames,
    XattrLengths,
    XattrValues,
    Uid,
    Gid,
    Mode,
}

/// How a field is written in the ASCII form of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Bytes in hex.
    Hex,
    /// The name of an algorithm, a colon, and a digest in hex.
    Digest,
    /// Text, followed by a zero in the data.
    Text,
    /// A decimal number, with its length in bytes.
    Number(usize),
}

impl Field {
    const ALL: [(Self, &'static str, Form); 16] = [
        (Self::Digest, "d", Form::Hex),
        (Self::Name, "n", Form::Text),
        (Self::DigestNg, "d-ng", Form::Digest),
        (Self::DigestNgV2, "d-ngv2", Form::Digest),
        (Self::NameNg, "n-ng", Form::Text),
        (Self::Signature, "sig", Form::Hex),
        (Self::Buffer, "buf", Form::Hex),
        (Self::AppendedDigest, "d-modsig", Form::Digest),
        (Self::AppendedSignature, "modsig", Form::Hex),
        (Self::EvmSignature, "evmsig", Form::Hex),
        (Self::XattrNames, "xattrnames", Form::Text),
        (Self::XattrLengths, "xattrlengths", Form::Hex),
        (Self::XattrValues, "xattrvalues", Form::Hex),
        (Self::Uid, "iuid", Form::Number(4)),
        (Self::Gid, "igid", Form::Number(4)),
        (Self::Mode, "imode", Form::Number(2)),
    ];

    fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|(_, known, _)| *known == name).map(|(field, ..)| field)
    }

    pub(super) fn form(self) -> Form {
        Self::ALL.into_iter().find(|(field, ..)| *field == self).map_or(Form::Hex, |(.., form)| form)
    }

    /// Whether the field holds the digest of the file or buffer.
    pub(super) const fn is_digest(self) -> bool {
        matches!(self, Self::Digest | Self::DigestNg | Self::DigestNgV2)
    }

    /// Whether the field holds the name of the file or buffer.
    pub(super) const fn is_name(self) -> bool {
        matches!(self, Self::Name | Self::NameNg)
    }
}

/// A sequence of fields that an administrator configured (`ima_template_fmt=`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Custom {
    format: String,
    fields: Vec<Field>,
}

/// The structure of an entry's data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Template {
    /// `ima`: SHA-1 or MD5, and a name of at most 255 bytes, without lengths.
    Ima,
    /// `ima-ng`: digest with its algorithm, and name.
    ImaNg,
    /// `ima-ngv2`: as `ima-ng`, with the kind of digest.
    ImaNgV2,
    /// `ima-sig`: as `ima-ng`, with the file's signature.
    ImaSig,
    /// `ima-sigv2`: as `ima-ngv2`, with the file's signature.
    ImaSigV2,
    /// `ima-modsig`: as `ima-sig`, with an appended signature.
    ImaModSig,
    /// `ima-buf`: a buffer of the kernel, such as a command line or keys.
    ImaBuf,
    /// `evm-sig`: as `ima-ng`, with the metadata that EVM protects.
    EvmSig,
    /// Fields that an administrator configured.
    Custom(Arc<Custom>),
}

impl Template {
    /// All named templates.
    pub const ALL: [Self; 8] = [
        Self::Ima,
        Self::ImaNg,
        Self::ImaNgV2,
        Self::ImaSig,
        Self::ImaSigV2,
        Self::ImaModSig,
        Self::ImaBuf,
        Self::EvmSig,
    ];

    /// The kernel's name; the fields, for a custom one.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Ima => "ima",
            Self::ImaNg => "ima-ng",
            Self::ImaNgV2 => "ima-ngv2",
            Self::ImaSig => "ima-sig",
            Self::ImaSigV2 => "ima-sigv2",
            Self::ImaModSig => "ima-modsig",
            Self::ImaBuf => "ima-buf",
            Self::EvmSig => "evm-sig",
            Self::Custom(custom) => &custom.format,
        }
    }

    /// Its fields, in order.
    #[must_use]
    pub fn fields(&self) -> &[Field] {
        match self {
            Self::Ima => &[Field::Digest, Field::Name],
            Self::ImaNg => &[Field::DigestNg, Field::NameNg],
            Self::ImaNgV2 => &[Field::DigestNgV2, Field::NameNg],
            Self::ImaSig => &[Field::DigestNg, Field::NameNg, Field::Signature],
            Self::ImaSigV2 => &[Field::DigestNgV2, Field::NameNg, Field::Signature],
            Self::ImaModSig => {
                &[Field::DigestNg, Field::NameNg, Field::Signature, Field::AppendedDigest, Field::AppendedSignature]
            }
            Self::ImaBuf => &[Field::DigestNg, Field::NameNg, Field::Buffer],
            Self::EvmSig => &[
                Field::DigestNg,
                Field::NameNg,
                Field::EvmSignature,
                Field::XattrNames,
                Field::XattrLengths,
                Field::XattrValues,
                Field::Uid,
                Field::Gid,
                Field::Mode,
            ],
            Self::Custom(custom) => &custom.fields,
        }
    }

    /// The template with this name. A custom one needs exactly one digest and one name.
    pub(super) fn from_name(name: &[u8]) -> Option<Self> {
        if let Some(known) = Self::ALL.into_iter().find(|template| template.name().as_bytes() == name) {
            return Some(known);
        }
        let format = std::str::from_utf8(name).ok()?;
        let fields: Vec<Field> = format.split('|').map(Field::from_name).collect::<Option<_>>()?;
        let count = |of: fn(Field) -> bool| fields.iter().filter(|field| of(**field)).count();
        let complete = (count(Field::is_digest), count(Field::is_name)) == (1, 1);
        let format = format.to_owned();
        (complete && fields.len() <= MAX_FIELDS).then(|| Self::Custom(Arc::new(Custom { format, fields })))
    }
}
