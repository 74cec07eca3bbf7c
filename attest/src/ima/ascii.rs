//! The ASCII form: a line for each entry, `PCR template-hash template fields…`, from
//! which the data are rebuilt as the kernel does.

use std::collections::VecDeque;
use std::io::{BufRead, Read};

use portcullis_wire::hex::unhex;

use super::entry::{Entry, OLD_DIGEST};
use super::parse::Fault;
use super::template::{Field, Form, Template};
use crate::tpm::pcr::{Bank, PCR_COUNT};

/// Longest line, in bytes.
const MAX_LINE: u64 = 4 << 20;
/// Largest number of lines of one entry: the kernel prints names unescaped, including
/// newlines.
const MAX_LINES: usize = 16;

/// Lines that were read ahead.
#[derive(Debug, Default)]
pub(super) struct Lines(VecDeque<Vec<u8>>);

impl Lines {
    /// The bank whose hash the first line states.
    pub(super) fn bank(head: &[u8]) -> Option<Bank> {
        let hash = words(head).nth(1)?;
        Bank::ALL.into_iter().find(|bank| Some(bank.length()) == hash.len().checked_div(2))
    }

    /// The next entry; `None` at the end.
    pub(super) fn entry(&mut self, r: &mut impl BufRead, bank: Bank) -> Result<Option<Entry>, Fault> {
        let line = loop {
            match self.line(r)? {
                None => return Ok(None),
                Some(line) if line.trim_ascii().is_empty() => {}
                Some(line) => break line,
            }
        };
        let whole = |line: &[u8]| {
            let entry = parse(line, bank)?;
            let holds = entry.is_violation() || entry.template_hash == entry.hash(bank);
            Ok::<_, Fault>((entry, holds))
        };
        let first = whole(&line);
        if let Ok((entry, true)) = first {
            return Ok(Some(entry));
        }
        // Some tools convert newlines to those of other systems.
        if let Some(Ok((entry, true))) = line.strip_suffix(b"\r").map(whole) {
            return Ok(Some(entry));
        }
        let (mut joined, mut ahead) = (line, VecDeque::new());
        while ahead.len() < MAX_LINES {
            let Some(next) = self.line(r)? else { break };
            let another = is_head(&next);
            joined = [joined.as_slice(), b"\n", &next].concat();
            ahead.push_back(next);
            if another {
                break;
            }
            if let Ok((entry, true)) = whole(&joined) {
                return Ok(Some(entry));
            }
        }
        ahead.append(&mut self.0);
        self.0 = ahead;
        first.map(|(entry, _)| Some(entry))
    }

    /// A line without its newline.
    fn line(&mut self, r: &mut impl BufRead) -> Result<Option<Vec<u8>>, Fault> {
        if let Some(line) = self.0.pop_front() {
            return Ok(Some(line));
        }
        let mut line = Vec::new();
        if Read::take(&mut *r, MAX_LINE).read_until(b'\n', &mut line)? == 0 {
            return Ok(None);
        }
        if line.last() == Some(&b'\n') {
            line.pop();
        }
        Ok(Some(line))
    }
}

fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.trim_ascii_start().split(|byte| *byte == b' ')
}

/// Whether a line begins as an entry does: PCR, hash, template.
fn is_head(line: &[u8]) -> bool {
    let mut words = words(line);
    let number = words.next().is_some_and(|pcr| !pcr.is_empty() && pcr.iter().all(u8::is_ascii_digit));
    let hash = words.next().is_some_and(|hash| hash.len() >= 40 && hash.iter().all(u8::is_ascii_hexdigit));
    number && hash && words.next().and_then(Template::from_name).is_some()
}

fn parse(line: &[u8], bank: Bank) -> Result<Entry, Fault> {
    let text = |bytes: &[u8]| std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| Fault::Malformed);
    let mut parts = line.trim_ascii_start().splitn(4, |byte| *byte == b' ');
    let mut part = || parts.next().ok_or(Fault::Malformed);
    let number: u32 = text(part()?)?.parse().map_err(|_| Fault::Malformed)?;
    let pcr = u8::try_from(number).ok().filter(|pcr| *pcr < PCR_COUNT).ok_or(Fault::Pcr(number))?;
    let hash = unhex(&text(part()?)?).filter(|hash| hash.len() == bank.length());
    let template_hash = hash.ok_or(Fault::Malformed)?;
    let name = part()?;
    let template = Template::from_name(name).ok_or_else(|| Fault::Template(name.to_vec()))?;
    let values = values(part()?, template.fields()).ok_or(Fault::Malformed)?;
    let data = if template == Template::Ima {
        old_data(&values).ok_or(Fault::Malformed)?
    } else {
        let counted = |value: &Vec<u8>| Some([&u32::try_from(value.len()).ok()?.to_le_bytes()[..], value].concat());
        values.iter().map(counted).collect::<Option<Vec<_>>>().ok_or(Fault::Malformed)?.concat()
    };
    let entry = Entry { pcr, template_hash, template, data };
    if entry.file().is_ok() { Ok(entry) } else { Err(Fault::Malformed) }
}

/// The values of the fields. Only names may contain blanks: fields before the name are
/// split from the left, fields after it from the right.
fn values(text: &[u8], fields: &[Field]) -> Option<Vec<Vec<u8>>> {
    let name = fields.iter().position(|field| field.is_name())?;
    let blank = |byte: &u8| *byte == b' ';
    let mut before: Vec<&[u8]> = text.splitn(name.checked_add(1)?, blank).collect();
    let rest = before.pop()?;
    let (_, behind) = fields.get(name..)?.split_first()?;
    let mut after: Vec<&[u8]> = rest.rsplitn(behind.len().checked_add(1)?, blank).collect();
    after.reverse();
    let read = |texts: Vec<&[u8]>| {
        let all = fields.iter().zip(before.iter().copied().chain(texts));
        let values: Vec<Vec<u8>> = all.map(|(field, text)| value(*field, text)).collect::<Option<_>>()?;
        (values.len() == fields.len()).then_some(values)
    };
    // Tools may have removed trailing blanks; an absent field is empty.
    let cut = || read([rest].into_iter().chain(behind.iter().map(|_| &b""[..])).collect());
    read(after).or_else(cut)
}

/// The bytes of a field. An absent field is empty.
fn value(field: Field, text: &[u8]) -> Option<Vec<u8>> {
    let utf8 = || std::str::from_utf8(text).ok();
    match field.form() {
        // The zero at the end is part of every text.
        Form::Text if field.is_name() || !text.is_empty() => Some([text, b"\0"].concat()),
        _ if text.is_empty() => Some(Vec::new()),
        Form::Text | Form::Hex => unhex(utf8()?),
        Form::Digest => {
            let (algorithm, digest) = utf8()?.rsplit_once(':')?;
            Some([algorithm.as_bytes(), b":\0", &unhex(digest)?].concat())
        }
        Form::Number(length) => {
            let number: u32 = utf8()?.parse().ok()?;
            let bytes = number.to_le_bytes();
            let (low, high) = bytes.split_at_checked(length)?;
            high.iter().all(|byte| *byte == 0).then(|| low.to_vec())
        }
    }
}

/// The template `ima`: a digest of 20 bytes, and the name without its zero.
fn old_data(values: &[Vec<u8>]) -> Option<Vec<u8>> {
    let [digest, name] = values else { return None };
    let name = name.strip_suffix(&[0])?;
    (digest.len() == OLD_DIGEST).then(|| [digest, name].concat())
}
