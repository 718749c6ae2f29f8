//! The kernel half's object file, made to fit a policy: its section of tables gets their size.
//!
//! A section is a map with a single value, and the program reads from it without looking anything up. Its size stands in the
//! object file, of which a loader takes it; in the section, and in the symbol that fills it.

use std::mem::offset_of;

use object::{
    Endianness, Object as _, ObjectSection as _, ObjectSymbol as _,
    elf::{FileHeader64, SectionHeader64, Sym64},
};

use super::error::Error;

/// The section, and the symbol in it.
const SECTION: &str = ".bss";
pub(super) const TABLES: &str = "TABLES";

/// The object file with room for tables of `size` bytes.
pub(super) fn with_room(object: &[u8], size: usize) -> Result<Vec<u8>, Error> {
    let places = size_places(object).ok_or_else(|| {
        Error::Load(format!("the object file has no symbol {TABLES} in a section {SECTION}"))
    })?;
    let mut object = object.to_vec();
    for place in places {
        let field = object.get_mut(place..).and_then(|rest| rest.first_chunk_mut());
        *field.ok_or_else(|| Error::Load("the object file ends too early".to_owned()))? =
            (size as u64).to_le_bytes();
    }
    Ok(object)
}

/// The bytes at which the sizes of section and symbol stand, both of 64 bits, little-endian.
fn size_places(object: &[u8]) -> Option<[usize; 2]> {
    type Header = FileHeader64<Endianness>;
    let file = object::File::parse(object).ok().filter(|file| file.is_64() && file.is_little_endian())?;
    let section = file.section_by_name(SECTION)?;
    let symbol =
        file.symbol_by_name(TABLES).filter(|symbol| symbol.section_index() == Some(section.index()))?;
    let (symbols, _) = file.section_by_name(".symtab")?.file_range()?;
    let headers: [u8; 8] = *object.get(offset_of!(Header, e_shoff)..)?.first_chunk()?;
    let headers = usize::try_from(u64::from_le_bytes(headers)).ok()?;
    let size_in = |table: usize, entry: usize, index: usize, field: usize| {
        table.checked_add(index.checked_mul(entry)?)?.checked_add(field)
    };
    let header = size_of::<SectionHeader64<Endianness>>();
    let field = offset_of!(SectionHeader64<Endianness>, sh_size);
    let of_section = size_in(headers, header, section.index().0, field)?;
    let field = offset_of!(Sym64<Endianness>, st_size);
    let symbols = usize::try_from(symbols).ok()?;
    let of_symbol = size_in(symbols, size_of::<Sym64<Endianness>>(), symbol.index().0, field)?;
    Some([of_section, of_symbol])
}

/// Whether the program in an object file takes packets in several buffers: its section says so, to every loader.
pub(super) fn takes_frags(object: &[u8]) -> bool {
    let file = object::File::parse(object);
    file.is_ok_and(|file| file.sections().any(|section| section.name() == Ok("xdp.frags")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_object_is_refused() {
        for bytes in [&b""[..], b"\x7fELF", &[0; 4096]] {
            let error = with_room(bytes, 64).unwrap_err();
            assert!(error.to_string().contains(".bss"), "{error}");
        }
    }
}
