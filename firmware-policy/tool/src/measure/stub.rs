//! Data in a stub: its version, and the list of sections that it looks for. It measures
//! the sections in the order of this list.

use object::read::pe::PeFile64;
use object::{Object, ObjectSection};

/// Sections where compilers place the list and its strings.
const DATA: [&str; 3] = [".rodata", ".data", ".text"];
/// Maximum length of a section name in an executable (PE/COFF specification, §4), and
/// maximum number of names.
const MAX_NAME: usize = 8;
const MAX_NAMES: usize = 64;
/// Length of a pointer, in bytes.
const POINTER: u64 = 8;

/// The stub states its name in a separate section:
/// `#### LoaderInfo: systemd-stub 252.39-1 ####`.
pub(super) fn version(image: &PeFile64<'_>) -> Option<u32> {
    let data = image.section_by_name(".sdmagic")?.data().ok()?;
    let text = std::str::from_utf8(data.split(|byte| *byte == 0).next()?).ok()?;
    let version = text.strip_prefix("#### LoaderInfo: systemd-stub ")?;
    version.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// The stub's list of sections (`unified_sections` of systemd's src/fundamental/uki.c):
/// pointers to strings, of which the first is `.linux`, and a null pointer at the end.
/// `None` unless the stub has exactly one such list.
pub(super) fn section_list(image: &PeFile64<'_>) -> Option<Vec<String>> {
    let memory = Memory::of(image);
    let mut found: Option<Vec<String>> = None;
    for (start, data) in &memory.sections {
        for at in (0..data.len()).step_by(POINTER as usize) {
            let address = start.checked_add(at as u64)?;
            if memory.name_at(address).as_deref() != Some(".linux") {
                continue;
            }
            match memory.list_at(address) {
                Some(list) if found.is_none() => found = Some(list),
                Some(_) => return None,
                None => {}
            }
        }
    }
    found
}

/// The stub's memory, without the payload of the image.
struct Memory<'a> {
    sections: Vec<(u64, &'a [u8])>,
}

impl<'a> Memory<'a> {
    fn of(image: &PeFile64<'a>) -> Self {
        let data = image.sections().filter(|section| section.name().is_ok_and(|name| DATA.contains(&name)));
        Self { sections: data.filter_map(|section| Some((section.address(), section.data().ok()?))).collect() }
    }

    fn from(&self, address: u64) -> Option<&'a [u8]> {
        self.sections.iter().find_map(|(start, data)| data.get(usize::try_from(address.checked_sub(*start)?).ok()?..))
    }

    fn pointer_at(&self, address: u64) -> Option<u64> {
        Some(u64::from_le_bytes(*self.from(address)?.first_chunk()?))
    }

    /// The name at the target of a pointer.
    fn name_at(&self, address: u64) -> Option<String> {
        let text = self.from(self.pointer_at(address)?)?;
        let text = text.get(..=MAX_NAME).unwrap_or(text).split(|byte| *byte == 0).next()?;
        let name = std::str::from_utf8(text).ok()?;
        let ends = text.len() <= MAX_NAME && name.len() > 1;
        let is_name = name.strip_prefix('.').is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_lowercase()));
        (ends && is_name).then(|| name.to_owned())
    }

    /// The names from an address up to a null pointer.
    fn list_at(&self, mut address: u64) -> Option<Vec<String>> {
        let mut names: Vec<String> = Vec::new();
        while self.pointer_at(address)? != 0 {
            let name = self.name_at(address)?;
            if names.contains(&name) || names.len() >= MAX_NAMES {
                return None;
            }
            names.push(name);
            address = address.checked_add(POINTER)?;
        }
        (names.len() > 2).then_some(names)
    }
}
