//! The listeners of `haul serve`, and its user.

use std::net::SocketAddr;
use std::sync::Arc;

use clap::Args;

use haul::internals::{find_group, inherited_listeners};
use haul::server::config::{
    DEFAULT_PORT, InheritedListener, LocalAccess, ServeConfig, UserAccount,
};

use crate::cli::values::{ListenAddress, any_address};

#[derive(Args, Debug)]
#[command(next_help_heading = "Listening")]
pub(super) struct ListenArgs {
    /// Address to listen on, or unix:PATH or unix:@NAME (abstract); may be repeated. Port 0 takes
    /// a free port [default: 127.0.0.1:7788, unless sockets were passed on (systemd.socket(5)) or
    /// there is --listen-tls]
    #[arg(long, short, env = "HAUL_LISTEN", value_name = "[HOST:]PORT",
        value_parser = any_address, value_delimiter = ',')]
    listen: Vec<ListenAddress>,

    /// Permissions of Unix sockets, in octal
    #[arg(long, env = "HAUL_UNIX_MODE", value_name = "MODE", value_parser = mode)]
    unix_mode: Option<u32>,

    /// Owner of Unix sockets
    #[arg(long, env = "HAUL_UNIX_OWNER", value_name = "USER[:GROUP]", value_parser = owner)]
    unix_owner: Option<Owner>,

    /// Become this user once all addresses are bound, before anything else is opened
    #[arg(long, env = "HAUL_USER", value_name = "NAME", value_parser = UserAccount::find)]
    user: Option<UserAccount>,
}

#[derive(Clone, Copy, Debug)]
struct Owner {
    uid: Option<u32>,
    gid: Option<u32>,
}

fn mode(text: &str) -> Result<u32, String> {
    let mode = u32::from_str_radix(text, 8).ok();
    let mode = mode.filter(|mode| *mode <= 0o777);
    mode.ok_or_else(|| format!("`{text}` is no mode; write 660 or the like"))
}

fn owner(text: &str) -> Result<Owner, String> {
    let (user, group) = match text.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (text, None),
    };
    let uid = (!user.is_empty()).then(|| match user.parse() {
        Ok(number) => Ok(number),
        Err(_) => UserAccount::find(user).map(|user| user.uid()),
    });
    Ok(Owner {
        uid: uid.transpose()?,
        gid: group.map(find_group).transpose()?,
    })
}

impl ListenArgs {
    /// Puts the options and the inherited sockets into the settings. To be called before any thread
    /// is started.
    pub(super) fn apply(self, config: &mut ServeConfig) -> Result<(), String> {
        let inherited = inherited_listeners().map_err(|error| {
            format!("what was passed (LISTEN_FDS) are no listening sockets: {error}")
        })?;
        config.inherited = inherited
            .into_iter()
            .map(Arc::<InheritedListener>::new)
            .collect();
        config.listen.clear();
        for address in self.listen {
            match address {
                ListenAddress::Inet(address) => config.listen.push(address),
                ListenAddress::Local(address) => config.listen_local.push(address),
            }
        }
        let is_silent = [
            config.inherited.iter().all(|it| it.is_own()),
            config.listen.is_empty(),
            config.listen_local.is_empty(),
            config.listen_tls.is_empty(),
        ];
        if is_silent.into_iter().all(|is_empty| is_empty) {
            config
                .listen
                .push(SocketAddr::from(([127, 0, 0, 1], DEFAULT_PORT)));
        }
        config.local_access = LocalAccess {
            mode: self.unix_mode,
            uid: self.unix_owner.and_then(|owner| owner.uid),
            gid: self.unix_owner.and_then(|owner| owner.gid),
        };
        config.user = self.user;
        Ok(())
    }
}
