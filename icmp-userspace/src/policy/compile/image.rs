//! All tables without a fixed size, one after the other, as the packet path finds them; [`icmp_common::tables`] has the layouts.

use icmp_common::{
    Plain,
    tables::{CACHE_LINE, Line},
};

/// Tables by the bytes at which they begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    lines: Vec<Line>,
}

impl Image {
    /// No tables yet.
    pub(super) const fn new() -> Self {
        Self { lines: Vec::new() }
    }

    /// The byte at which the next table will begin.
    pub(super) fn end(&self) -> u32 {
        // Within the budget, which is less than 2^32, or refused before anybody looks there.
        (self.lines.len() * CACHE_LINE) as u32
    }

    /// Appends a table and says at which byte it begins.
    pub(super) fn append<T: Plain>(&mut self, values: &[T]) -> u32 {
        let begin = self.end();
        self.lines.extend(T::bytes(values).chunks(CACHE_LINE).map(|part| {
            let mut line = [0; CACHE_LINE];
            line[..part.len()].copy_from_slice(part);
            let (words, _) = line.as_chunks();
            std::array::from_fn(|word| u64::from_ne_bytes(words[word]))
        }));
        begin
    }

    /// Appends an empty line, so that the longest value may begin anywhere before it, and says what is the last byte for that.
    pub(super) fn finish(&mut self) -> u32 {
        let last = self.append(&[[0_u64; CACHE_LINE / 8]]);
        self.lines.shrink_to_fit();
        last
    }

    /// The value at a byte; `None` behind the end.
    #[must_use]
    pub fn get<T: Plain>(&self, byte: u32) -> Option<&T> {
        T::at(&self.lines, byte as usize)
    }

    /// As they go into the kernel.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        Line::bytes(&self.lines)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_begin_at_cache_lines_and_end_before_an_empty_one() {
        let mut image = Image::new();
        assert_eq!((image.append(&[1_u32, 2, 3]), image.append(&[[7_u64; 8]; 2]), image.end()), (0, 64, 192));
        assert_eq!((image.finish(), image.bytes().len()), (192, 256));
        assert_eq!((image.get::<u32>(8), image.get::<u32>(12)), (Some(&3), Some(&0)));
        assert_eq!((image.get::<Line>(128), image.get::<Line>(192)), (Some(&[7; 8]), Some(&[0; 8])));
        assert_eq!((image.get::<Line>(200), image.get::<u32>(256), image.get::<u32>(2)), (None, None, None));
    }
}
