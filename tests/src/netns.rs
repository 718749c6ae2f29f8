//! Networks of a test's own: namespaces, a veth pair between two of them, a BPF file system. Nothing of the
//! machine's own is touched, and all of it is removed when dropped, also by a panic.

use std::{
    fs::{self, File},
    os::{fd::AsFd as _, unix::fs::MetadataExt as _, unix::process::CommandExt as _},
    path::{Path, PathBuf},
    process::{self, Command},
    sync::atomic::{AtomicU32, Ordering},
    thread,
};

use aya::{
    Ebpf, EbpfLoader,
    programs::{Xdp, XdpMode},
};
use icmp_common::ABI_VERSION;
use rustix::{
    mount::{MountFlags, UnmountFlags, mount, unmount},
    thread::{LinkNameSpaceType, move_into_link_name_space},
};
use serde_json::Value;
use tempfile::TempDir;

use crate::icmpctl;

/// The server's end of the veth pair.
pub const SERVER_END: &str = "server0";
/// The client's end of the veth pair.
pub const CLIENT_END: &str = "client0";
/// The server's addresses, in text; the same as in [`crate::frames`].
pub const SERVER4: &str = "192.0.2.1";
/// As above.
pub const SERVER6: &str = "2001:db8::1";
/// The client's addresses.
pub const CLIENT4: &str = "192.0.2.2";
/// As above.
pub const CLIENT6: &str = "2001:db8::2";
/// A policy with prefixes of which the server has no address; the client sends to them by way of the server.
pub const ANYCAST: &str = "respond.to = [\"own\", \"198.51.100.0/24\", \"2001:db8:53::/64\"]";
/// Addresses of these prefixes.
pub const ANYCAST4: &str = "198.51.100.53";
/// As above.
pub const ANYCAST6: &str = "2001:db8:53::53";

/// Runs a command and returns what it prints.
///
/// # Panics
///
/// Panics with the command and what it says if it fails.
pub fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        panic!("{command:?} failed ({}):\n{stdout}{stderr}", output.status);
    }
    stdout
}

/// A network namespace.
pub struct Namespace {
    name: String,
    file: File,
}

impl Namespace {
    /// Makes one whose name ends in `role`.
    #[must_use]
    pub fn new(role: &str) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("icmpctl-{}-{}-{role}", process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        run(Command::new("ip").args(["netns", "add", &name]));
        let file = File::open(Path::new("/run/netns").join(&name)).unwrap();
        let namespace = Self { name, file };
        namespace.enter(|| {
            // The stack's own solicitations would be counted, too; the less there is, the easier to say what came.
            fs::write("/proc/sys/net/ipv6/conf/default/accept_dad", "0").unwrap();
            fs::write("/proc/sys/net/ipv6/conf/default/router_solicitations", "0").unwrap();
            // How many pings a kernel answers a second is not what is tested.
            fs::write("/proc/sys/net/ipv4/icmp_ratelimit", "0").unwrap();
        });
        namespace.ip("link set lo up");
        namespace
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs a function on a thread that has moved into it.
    pub fn enter<T: Send>(&self, function: impl FnOnce() -> T + Send) -> T {
        let moved = || {
            move_into_link_name_space(self.file.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            function()
        };
        let outcome = thread::scope(|scope| scope.spawn(moved).join());
        outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// A command that will run in it.
    #[must_use]
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let file = self.file.try_clone().unwrap();
        let mut command = Command::new(program);
        let enter = move || Ok(move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))?);
        // SAFETY: between fork and exec it makes one system call and allocates nothing.
        unsafe { command.pre_exec(enter) };
        command
    }

    /// Runs a command in it, with arguments between spaces, and returns all that it prints, whatever its exit status.
    #[must_use]
    pub fn says(&self, command: &str) -> String {
        let (program, arguments) = command.split_once(' ').unwrap_or((command, ""));
        let output = self.command(program).args(arguments.split_whitespace()).output();
        let output = output.unwrap_or_else(|error| panic!("{command}: {error}"));
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    }

    /// Runs `ip` in it, with arguments between spaces.
    pub fn ip(&self, arguments: &str) -> String {
        run(Command::new("ip").args(["-n", &self.name]).args(arguments.split(' ')))
    }

    /// Sets a value below `/proc/sys/net`.
    pub fn sysctl(&self, name: &str, value: &str) {
        self.enter(|| fs::write(Path::new("/proc/sys/net").join(name), value).unwrap());
    }

    /// What `ip` says of an interface, as JSON.
    #[must_use]
    pub fn link(&self, interface: &str) -> Value {
        let text = self.ip(&format!("-d -j link show dev {interface}"));
        serde_json::from_str::<Value>(&text).unwrap()[0].take()
    }

    /// The number of an interface.
    #[must_use]
    pub fn index(&self, interface: &str) -> u32 {
        self.link(interface)["ifindex"].as_u64().unwrap() as u32
    }

    /// The id of the XDP program on an interface, if there is one.
    #[must_use]
    pub fn xdp_program(&self, interface: &str) -> Option<u64> {
        self.link(interface)["xdp"]["prog"]["id"].as_u64()
    }

    /// What icmpctl calls an interface in names of pins and files.
    #[must_use]
    pub fn key(&self, interface: u32) -> String {
        format!("netns{}-if{interface}", self.number())
    }

    fn number(&self) -> u64 {
        self.file.metadata().unwrap().ino()
    }

    /// Loads `pass` of the instruments and attaches it natively, until what is returned is dropped.
    #[must_use]
    pub fn attach_pass(&self, interface: &str) -> Ebpf {
        let mut object = EbpfLoader::new().load_file(icmpctl::instruments()).unwrap();
        let program: &mut Xdp = object.program_mut("pass").unwrap().try_into().unwrap();
        program.load().unwrap();
        self.enter(|| program.attach(interface, XdpMode::Driver)).unwrap();
        object
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // What a test attached and did not detach leaves a record behind.
        let mine = format!("netns{}-", self.number());
        for entry in fs::read_dir("/run/icmpctl").into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with(&mine) {
                let _ = fs::remove_file(entry.path());
            }
        }
        let _ = Command::new("ip").args(["netns", "delete", &self.name]).output();
    }
}

/// A BPF file system.
pub struct Bpffs {
    directory: TempDir,
}

impl Bpffs {
    /// Mounts one in a new directory.
    #[must_use]
    pub fn new() -> Self {
        let directory = TempDir::with_prefix("icmpctl-bpffs-").unwrap();
        mount("bpf", directory.path(), "bpf", MountFlags::empty(), None).unwrap();
        Self { directory }
    }

    /// Where it is mounted.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.directory.path()
    }
}

impl Default for Bpffs {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Bpffs {
    fn drop(&mut self) {
        let _ = unmount(self.directory.path(), UnmountFlags::DETACH);
    }
}

/// A server and a client, joined by a veth pair, with addresses of both families.
pub struct Lab {
    /// The side on which icmpctl works.
    pub server: Namespace,
    /// The side that pings.
    pub client: Namespace,
    /// Where pins go.
    pub bpffs: Bpffs,
    /// Other files of the test.
    pub files: TempDir,
    pass: Option<Ebpf>,
}

impl Lab {
    /// Makes it, with no program anywhere.
    #[must_use]
    pub fn new() -> Self {
        let (server, client) = (Namespace::new("s"), Namespace::new("c"));
        server.ip(&format!(
            "link add {SERVER_END} address 02:00:00:00:00:01 type veth peer name {CLIENT_END} address \
             02:00:00:00:00:02 netns {}",
            client.name()
        ));
        for (namespace, end, v4, v6) in
            [(&server, SERVER_END, SERVER4, SERVER6), (&client, CLIENT_END, CLIENT4, CLIENT6)]
        {
            namespace.ip(&format!("address add {v4}/24 broadcast + dev {end}"));
            namespace.ip(&format!("address add {v6}/64 dev {end} nodad"));
            namespace.ip(&format!("link set {end} up"));
        }
        // The kernel notices a carrier a little later; until then it drops multicast without a word.
        for (namespace, end) in [(&server, SERVER_END), (&client, CLIENT_END)] {
            icmpctl::wait_until(|| {
                let multicast = namespace.ip(&format!("-6 route show table local ff00::/8 dev {end}"));
                namespace.link(end)["operstate"] == "UP" && !multicast.is_empty()
            });
        }
        client.ip(&format!("route add 198.51.100.0/24 via {SERVER4}"));
        client.ip(&format!("route add 2001:db8:53::/64 via {SERVER6}"));
        Self { server, client, bpffs: Bpffs::new(), files: TempDir::new().unwrap(), pass: None }
    }

    /// Makes it ready for native mode: a veth sends natively only to an end with a native program of its own.
    #[must_use]
    pub fn native() -> Self {
        let mut lab = Self::new();
        lab.pass = Some(lab.client.attach_pass(CLIENT_END));
        lab
    }

    /// Frames that the veth pair has dropped: on the way to the server, and back.
    #[must_use]
    pub fn dropped(&self) -> [u64; 2] {
        let text = self.server.ip(&format!("-s -j link show dev {SERVER_END}"));
        let links: Value = serde_json::from_str(&text).unwrap();
        ["rx", "tx"].map(|way| links[0]["stats64"][way]["dropped"].as_u64().unwrap())
    }

    /// Writes a policy file.
    #[must_use]
    pub fn policy(&self, text: &str) -> PathBuf {
        let path = self.files.path().join("policy.toml");
        fs::write(&path, text).unwrap();
        path
    }

    /// Where the pins of the server's end are.
    #[must_use]
    pub fn pins(&self) -> PathBuf {
        self.bpffs
            .path()
            .join(format!("icmpctl/v{ABI_VERSION}"))
            .join(self.server.key(self.server.index(SERVER_END)))
    }

    /// The state directory.
    #[must_use]
    pub fn state(&self) -> PathBuf {
        self.files.path().join("state")
    }

    /// Demands that nothing is left of icmpctl: no pins, no program on the server's end, no files.
    ///
    /// # Panics
    ///
    /// Panics if something is left.
    pub fn assert_nothing_left(&self) {
        self.assert_no_pins();
        assert_eq!(self.server.xdp_program(SERVER_END), None);
        let key = self.server.key(self.server.index(SERVER_END));
        let files: Vec<_> = fs::read_dir("/run/icmpctl")
            .into_iter()
            .flatten()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.starts_with(&key))
            .collect();
        assert!(files.is_empty(), "left in /run/icmpctl: {files:?}");
    }

    /// Demands that no interface of the lab has pins.
    ///
    /// # Panics
    ///
    /// Panics if one has.
    pub fn assert_no_pins(&self) {
        assert!(!self.bpffs.path().join("icmpctl").exists(), "pins are left");
    }
}

impl Default for Lab {
    fn default() -> Self {
        Self::new()
    }
}
