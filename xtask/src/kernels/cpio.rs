//! Archives in cpio's format "newc", which is what a kernel unpacks its first files from
//! (Documentation/driver-api/early-userspace/buffer-format.rst).

/// What behind an archive's last file says that it ends.
const TRAILER: &str = "TRAILER!!!";
/// Types of files, as in `st_mode` (inode(7)).
const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;

/// An archive. All that is in it is root's, and may be executed.
#[derive(Default)]
pub(super) struct Archive {
    bytes: Vec<u8>,
    files: u32,
}

impl Archive {
    /// Adds a directory. What lies in it has to come later.
    pub(super) fn directory(&mut self, path: &str) {
        self.add(path, DIRECTORY | 0o755, 2, &[]);
    }

    /// Adds a file.
    pub(super) fn file(&mut self, path: &str, contents: &[u8]) {
        self.add(path, REGULAR | 0o755, 1, contents);
    }

    /// The whole archive.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.files = 0;
        self.add(TRAILER, 0, 1, &[]);
        self.bytes
    }

    fn add(&mut self, path: &str, mode: u32, links: u32, contents: &[u8]) {
        // Number, mode, owner, group, links, time, size; device of the file and device that it is; length of the name with the
        // zero behind it; checksum, which this format has not.
        let size = contents.len() as u32;
        let fields = [self.files, mode, 0, 0, links, 0, size, 0, 0, 0, 0, path.len() as u32 + 1, 0];
        self.bytes.extend(b"070701");
        for field in fields {
            self.bytes.extend(format!("{field:08X}").bytes());
        }
        self.bytes.extend(path.bytes());
        self.bytes.push(0);
        self.align();
        self.bytes.extend(contents);
        self.align();
        self.files += 1;
    }

    /// Headers and contents begin at multiples of four.
    fn align(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `printf 'bin\nbin/a\n' | cpio -o -H newc --reproducible --owner=0:0` (GNU cpio 2.13, files of the year 1970) gives these bytes, and
    /// then zeros to the end of a block.
    #[test]
    fn archives_are_those_of_cpio() {
        let expected = concat!(
            "070701",
            "00000000000041ED000000000000000000000002000000000000000000000000000000000000000000000000",
            "0000000400000000bin~~~",
            "070701",
            "00000001000081ED000000000000000000000001000000000000000500000000000000000000000000000000",
            "0000000600000000bin/a~hello~~~",
            "070701",
            "0000000000000000000000000000000000000001000000000000000000000000000000000000000000000000",
            "0000000B00000000TRAILER!!!~~~~",
        );
        let mut archive = Archive::default();
        archive.directory("bin");
        archive.file("bin/a", b"hello");
        assert_eq!(String::from_utf8(archive.finish()).unwrap().replace('\0', "~"), expected);
    }
}
