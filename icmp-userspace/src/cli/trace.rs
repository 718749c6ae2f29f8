//! `run --trace`: prints what the kernel half logs. Both halves are built for that by `cargo xtask build --debug-log` alone.

use std::time::Duration;

use anyhow::Context as _;
use aya_log::EbpfLogger;
use icmp_userspace::kernel::interface::Netlink;
use tokio::time::sleep;

/// How often what has been logged is looked for.
const PAUSE: Duration = Duration::from_millis(50);

/// Prints what whatever program runs on an interface logs; ends with the attachment.
pub(super) async fn print(netlink: Netlink, index: u32) {
    let mut reading = None;
    while let Ok(Some(interface)) = netlink.by_index(index).await {
        let Some(program) = interface.xdp.map(|attached| attached.program) else { return };
        let same = reading.as_ref().is_some_and(|(read, _)| *read == program);
        if !same {
            let logger = EbpfLogger::init_from_id(program)
                .with_context(|| format!("reading the log of program {program}"));
            match logger {
                Ok(logger) => reading = Some((program, logger)),
                Err(error) => {
                    log::error!("{error:#}");
                    return;
                }
            }
        }
        if let Some((_, logger)) = &mut reading {
            logger.flush();
        }
        sleep(PAUSE).await;
    }
}
