//! The lab's network: namespaces, veth pair, addresses, a BPF file system; made, and removed without a trace.

use std::{
    fs,
    io::Read as _,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use super::interrupt::Interrupted;
use crate::say;

/// The namespaces' names.
pub(crate) const SERVER: &str = "icmpctl-server";
pub(crate) const CLIENT: &str = "icmpctl-client";
/// The veth's ends.
pub(crate) const SERVER_END: &str = "server0";
pub(crate) const CLIENT_END: &str = "client0";
/// A line within the client's namespace, and its end: what a client sends into it can be put between the frames of a flood.
const LINE: &str = "line0";
pub(crate) const LINE_END: &str = "line1";
/// The server's own addresses, the client's, and those of another client, at the same end of the veth.
pub(crate) const SERVER4: &str = "192.0.2.1";
pub(crate) const SERVER6: &str = "2001:db8::1";
pub(crate) const CLIENT4: &str = "192.0.2.2";
pub(crate) const CLIENT6: &str = "2001:db8::2";
pub(crate) const OTHER4: &str = "192.0.2.3";
pub(crate) const OTHER6: &str = "2001:db8::3";
/// The first address of a crowd that is at the client's end, too; they are up to 16 million.
pub(crate) const CROWD4: &str = "10.0.0.0";
/// Addresses that the server does not have but answers for; the closed ones only as long as there is no access list.
pub(crate) const ANYCAST4: &str = "198.51.100.53";
pub(crate) const ANYCAST6: &str = "2001:db8:53::53";
pub(crate) const CLOSED4: &str = "198.51.100.9";
pub(crate) const CLOSED6: &str = "2001:db8:53::9";
/// MAC addresses, fixed, so that frames can be made by hand.
pub(crate) const SERVER_MAC: &str = "02:00:00:00:00:01";
pub(crate) const CLIENT_MAC: &str = "02:00:00:00:00:02";

/// Enough for 1,472 bytes of data behind an IPv6 header, in one piece.
const MTU: u32 = 1600;

/// Everything of the lab that is a file.
pub(crate) const DIRECTORY: &str = "/run/icmpctl/lab";
const POLICY: &str = "\
# What the lab's server answers: its own addresses, and two prefixes that it has no address of.
[respond]
to = [\"own\", \"198.51.100.0/24\", \"2001:db8:53::/64\"]
";

/// The commands that make the network, behind `ip`; so many cores at once can send through it.
fn commands(cores: usize) -> Vec<String> {
    let queues = format!("numtxqueues {cores} numrxqueues {cores}");
    [
        format!("netns add {SERVER}"),
        format!("netns add {CLIENT}"),
        format!(
            "-n {SERVER} link add {SERVER_END} address {SERVER_MAC} {queues} type veth peer name {CLIENT_END} address \
             {CLIENT_MAC} netns {CLIENT} {queues}"
        ),
        format!("-n {SERVER} address add {SERVER4}/24 dev {SERVER_END}"),
        format!("-n {SERVER} address add {SERVER6}/64 dev {SERVER_END} nodad"),
        format!("-n {CLIENT} address add {CLIENT4}/24 dev {CLIENT_END}"),
        format!("-n {CLIENT} address add {CLIENT6}/64 dev {CLIENT_END} nodad"),
        format!("-n {CLIENT} address add {OTHER4}/24 dev {CLIENT_END}"),
        // Deprecated: only those who ask for it get it as their source.
        format!("-n {CLIENT} address add {OTHER6}/64 dev {CLIENT_END} nodad preferred_lft 0"),
        format!("-n {SERVER} link set {SERVER_END} mtu {MTU} up"),
        format!("-n {CLIENT} link set {CLIENT_END} mtu {MTU} up"),
        format!("-n {SERVER} route add {CROWD4}/8 via {CLIENT4}"),
        format!("-n {CLIENT} route add 198.51.100.0/24 via {SERVER4}"),
        format!("-n {CLIENT} route add 2001:db8:53::/64 via {SERVER6}"),
        // Known neighbours: a flood is not the time to ask.
        format!("-n {CLIENT} neighbour replace {SERVER4} lladdr {SERVER_MAC} dev {CLIENT_END}"),
        format!("-n {CLIENT} neighbour replace {SERVER6} lladdr {SERVER_MAC} dev {CLIENT_END}"),
        format!("-n {SERVER} neighbour replace {CLIENT4} lladdr {CLIENT_MAC} dev {SERVER_END}"),
        format!("-n {SERVER} neighbour replace {CLIENT6} lladdr {CLIENT_MAC} dev {SERVER_END}"),
    ]
    .into()
}

/// The lab's network, until it is dropped.
pub(crate) struct Network {
    icmpctl: PathBuf,
    interrupted: Interrupted,
    kept: bool,
}

impl Network {
    /// Makes the network, through which so many cores can send without waiting for each other.
    pub(crate) fn make(icmpctl: &Path, interrupted: &Interrupted, cores: usize) -> Result<Self> {
        ensure!(
            rustix::process::geteuid().is_root(),
            "the lab takes root, for network namespaces and BPF; run it as root, for example with `sudo -E`"
        );
        for name in [SERVER, CLIENT] {
            if Path::new("/run/netns").join(name).exists() {
                bail!(
                    "a lab is still there, kept or left by a killed run; remove it with:\n{}",
                    remove_commands()
                );
            }
        }
        say::step("making two network namespaces and a veth pair between them");
        // From here on dropping it removes what there is, however far this comes.
        let network = Self { icmpctl: icmpctl.to_owned(), interrupted: interrupted.clone(), kept: false };
        for command in commands(cores) {
            network.ip(&command)?;
        }
        let bpffs = network.bpffs();
        fs::create_dir_all(&bpffs).with_context(|| format!("making {}", bpffs.display()))?;
        mount("bpf", &bpffs, "bpf", MountFlags::empty(), None)
            .with_context(|| format!("mounting a BPF file system on {}", bpffs.display()))?;
        network.write(&network.policy(), "")?;
        Ok(network)
    }

    /// Where the lab's pins are.
    pub(crate) fn bpffs(&self) -> PathBuf {
        Path::new(DIRECTORY).join("bpffs")
    }

    /// The policy that is attached, which has no access list.
    pub(crate) fn policy(&self) -> PathBuf {
        Path::new(DIRECTORY).join("policy.toml")
    }

    /// Writes a policy that serves the same and has this access list; returns its path.
    pub(crate) fn with_rules(&self, name: &str, rules: &str) -> Result<PathBuf> {
        self.with(name, &format!("[acl]\nrules = \"\"\"\n{rules}\"\"\"\n"))
    }

    /// Writes a policy that serves the same and has these tables besides; returns its path.
    pub(crate) fn with(&self, name: &str, tables: &str) -> Result<PathBuf> {
        let path = Path::new(DIRECTORY).join(name);
        self.write(&path, &format!("\n{tables}"))?;
        Ok(path)
    }

    fn write(&self, path: &Path, rest: &str) -> Result<()> {
        fs::write(path, format!("{POLICY}{rest}")).with_context(|| format!("writing {}", path.display()))
    }

    /// Where icmpctl keeps what pins can't hold.
    fn state(&self) -> PathBuf {
        Path::new(DIRECTORY).join("state")
    }

    /// Attaches icmpctl to the server's end.
    pub(crate) fn attach(&self) -> Result<()> {
        let policy = self.policy();
        self.icmpctl(&["attach", SERVER_END, "--mode", "native", "--policy", &policy.to_string_lossy()])
            .map(drop)
    }

    /// Puts another policy in place.
    pub(crate) fn apply(&self, policy: &Path) -> Result<()> {
        self.icmpctl(&["apply", SERVER_END, &policy.to_string_lossy()]).map(drop)
    }

    /// Lets the client's requests to the server's IPv4 address take the line. Replies come back without it.
    pub(crate) fn lay_line(&self) -> Result<()> {
        for command in [
            format!("-n {CLIENT} link add {LINE} address {CLIENT_MAC} type veth peer name {LINE_END}"),
            format!("-n {CLIENT} link set {LINE} up"),
            format!("-n {CLIENT} link set {LINE_END} up"),
            format!("-n {CLIENT} neighbour replace {SERVER4} lladdr {SERVER_MAC} dev {LINE}"),
            format!("-n {CLIENT} route add {SERVER4} dev {LINE} src {CLIENT4}"),
        ] {
            self.ip(&command)?;
        }
        // The server is not where its replies come from.
        let command = "for file in /proc/sys/net/ipv4/conf/*/rp_filter; do echo 0 > $file; done";
        self.run_in(CLIENT, &["sh", "-c", command]).map(drop)
    }

    /// Takes the line away.
    pub(crate) fn remove_line(&self) -> Result<()> {
        self.ip(&format!("-n {CLIENT} link delete {LINE}"))
    }

    /// Takes icmpctl off the server's end.
    pub(crate) fn detach(&self) -> Result<()> {
        self.icmpctl(&["detach", SERVER_END]).map(drop)
    }

    /// Takes whatever else is attached off the server's end.
    pub(crate) fn clear_server(&self) -> Result<()> {
        self.run("ip", &["-n", SERVER, "link", "set", "dev", SERVER_END, "xdpdrv", "off"]).map(drop)
    }

    /// The command icmpctl, in the server's namespace.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.icmpctl);
        command.args(["--netns", SERVER, "--bpffs"]).arg(self.bpffs());
        command.arg("--state").arg(self.state()).args(arguments);
        command
    }

    /// Runs icmpctl in the server's namespace and returns what it prints.
    pub(crate) fn icmpctl(&self, arguments: &[&str]) -> Result<String> {
        self.output(&mut self.command(arguments))
    }

    /// Runs a command in a namespace and returns what it prints.
    pub(crate) fn run_in(&self, namespace: &str, command: &[&str]) -> Result<String> {
        let mut all = vec!["netns", "exec", namespace];
        all.extend(command);
        self.run("ip", &all)
    }

    /// Runs `ip`, with arguments between spaces.
    pub(crate) fn ip(&self, arguments: &str) -> Result<()> {
        self.run("ip", &arguments.split(' ').collect::<Vec<_>>()).map(drop)
    }

    /// Runs a command to its end and returns what it prints; ends it if somebody wants us to end.
    pub(crate) fn run(&self, program: &str, arguments: &[&str]) -> Result<String> {
        self.output(Command::new(program).args(arguments))
    }

    fn output(&self, command: &mut Command) -> Result<String> {
        let words = [command.get_program()].into_iter().chain(command.get_args());
        let words: Vec<_> = words.map(|word| word.to_string_lossy().into_owned()).collect();
        let what = || format!("running {}", words.join(" "));
        let output = self.wait(command).with_context(what)?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{}: {} ({})", what(), said.trim(), output.status);
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Runs a command to its end, whatever its exit status.
    pub(crate) fn wait(&self, command: &mut Command) -> Result<Output> {
        self.check()?;
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("starting it")?;
        while child.try_wait()?.is_none() {
            if let Err(interrupted) = self.check() {
                let _ = child.kill();
                let _ = child.wait();
                return Err(interrupted);
            }
            sleep(Duration::from_millis(2));
        }
        Ok(child.wait_with_output()?)
    }

    /// An error once somebody wants us to end.
    pub(crate) fn check(&self) -> Result<()> {
        self.interrupted.check()
    }

    /// Leaves the lab up and says how to play with it and how to remove it.
    pub(crate) fn keep(mut self) {
        self.kept = true;
        let (icmpctl, bpffs, policy) = (self.icmpctl.display(), self.bpffs(), self.policy());
        let state = self.state();
        let (bpffs, policy, state) = (bpffs.display(), policy.display(), state.display());
        println!(
            "\nThe lab stays up. To play with it:\n\
             \n  ip netns exec {CLIENT} ping {SERVER4}\n  ip netns exec {CLIENT} ping {ANYCAST6}\n  \
             {icmpctl} --netns {SERVER} --bpffs {bpffs} status\n  \
             {icmpctl} --netns {SERVER} --bpffs {bpffs} stats\n  \
             $EDITOR {policy}\n  \
             {icmpctl} --netns {SERVER} --bpffs {bpffs} --state {state} apply {SERVER_END} {policy}\n\
             \nTo remove it:\n\n{}",
            remove_commands_with(&format!(
                "  {icmpctl} --netns {SERVER} --bpffs {bpffs} detach {SERVER_END}\n"
            ))
        );
    }

    /// Removes the lab, and says if that fails.
    pub(crate) fn remove(mut self) -> Result<()> {
        self.kept = true;
        self.tear_down()
    }

    fn tear_down(&self) -> Result<()> {
        let mut failures = Vec::new();
        // An icmpctl that is attached keeps a record beside its pins; it removes both itself.
        let bpffs = self.bpffs();
        let arguments = ["--netns", SERVER, "--bpffs", &bpffs.to_string_lossy(), "detach", SERVER_END];
        let _ = Command::new(&self.icmpctl).args(arguments).stderr(Stdio::null()).status();
        for name in [SERVER, CLIENT] {
            if Path::new("/run/netns").join(name).exists() {
                let status = Command::new("ip").args(["netns", "delete", name]).status();
                if !status.is_ok_and(|status| status.success()) {
                    failures.push(format!("the network namespace {name}"));
                }
            }
        }
        if is_mounted(&bpffs) && unmount(&bpffs, UnmountFlags::DETACH).is_err() {
            failures.push(format!("the mount {}", bpffs.display()));
        }
        if Path::new(DIRECTORY).exists() && fs::remove_dir_all(DIRECTORY).is_err() {
            failures.push(format!("the directory {DIRECTORY}"));
        }
        ensure!(failures.is_empty(), "these could not be removed: {}", failures.join(", "));
        Ok(())
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        if !self.kept
            && let Err(error) = self.tear_down()
        {
            eprintln!("taking down the lab: {error:#}");
        }
    }
}

fn remove_commands() -> String {
    remove_commands_with("")
}

fn remove_commands_with(first: &str) -> String {
    format!(
        "{first}  ip netns delete {SERVER}\n  ip netns delete {CLIENT}\n  umount {DIRECTORY}/bpffs\n  rm -r {DIRECTORY}"
    )
}

fn is_mounted(path: &Path) -> bool {
    let mut mounts = String::new();
    let read = fs::File::open("/proc/self/mounts").and_then(|mut file| file.read_to_string(&mut mounts));
    let path = path.to_string_lossy();
    read.is_ok() && mounts.lines().any(|line| line.split(' ').nth(1) == Some(&*path))
}

/// Waits until something holds, but not for ever; false if it never did.
pub(crate) fn wait_until(longest: Duration, mut holds: impl FnMut() -> Result<bool>) -> Result<bool> {
    let begin = Instant::now();
    while !holds()? {
        if begin.elapsed() > longest {
            return Ok(false);
        }
        sleep(Duration::from_millis(2));
    }
    Ok(true)
}
