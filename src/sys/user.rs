//! The user that the process becomes, and groups by their names.

use std::ffi::CString;
use std::io;

use nix::unistd::{Gid, Group, Uid, User, initgroups, setgid, setuid};

/// A user to become.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserAccount {
    name: CString,
    uid: Uid,
    gid: Gid,
}

impl UserAccount {
    /// Looks a user up by name or number (`getpwnam(3)`).
    ///
    /// # Errors
    /// No user of that name, or users cannot be looked up.
    pub fn find(name: &str) -> Result<Self, String> {
        let found = match name.parse() {
            Ok(number) => User::from_uid(Uid::from_raw(number)),
            Err(_) => User::from_name(name),
        };
        let user = found
            .map_err(|error| format!("cannot look the user `{name}` up: {error}"))?
            .ok_or_else(|| format!("there is no user `{name}`"))?;
        let name = CString::new(user.name).map_err(|error| error.to_string())?;
        let (uid, gid) = (user.uid, user.gid);
        Ok(Self { name, uid, gid })
    }

    /// Its number.
    #[must_use]
    pub fn uid(&self) -> u32 {
        self.uid.as_raw()
    }

    /// Becomes this user for good, with its groups and no others. Needs no privilege if the process
    /// is this user already.
    pub(crate) fn assume(&self) -> io::Result<()> {
        if Uid::current() == self.uid && Uid::effective() == self.uid && !self.uid.is_root() {
            return Ok(());
        }
        initgroups(&self.name, self.gid)?;
        setgid(self.gid)?;
        setuid(self.uid)?;
        Ok(())
    }
}

/// The number of a group, by name or number.
///
/// # Errors
/// No group of that name, or groups cannot be looked up.
pub fn find_group(name: &str) -> Result<u32, String> {
    if let Ok(number) = name.parse() {
        return Ok(number);
    }
    let found = Group::from_name(name)
        .map_err(|error| format!("cannot look the group `{name}` up: {error}"))?;
    let group = found.ok_or_else(|| format!("there is no group `{name}`"))?;
    Ok(group.gid.as_raw())
}
