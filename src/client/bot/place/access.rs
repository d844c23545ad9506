//! Who may read a file: owner, mode and access control list, set and looked at.

use std::{
    fs::File,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::Path,
};

use rustix::{
    fs::{Gid, Mode, Uid, XattrFlags, fchmod, fchown, fgetxattr, fremovexattr, fsetxattr},
    io::Errno,
};

use super::{PlaceError, system};
use crate::{
    accounts,
    bot::config::{self, Reader},
};

/// Who may read what is secret.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Access {
    /// Who owns the files.
    pub(super) owner: Option<u32>,
    group: Option<u32>,
    users: Vec<u32>,
    groups: Vec<u32>,
}

impl Access {
    pub(super) fn read(settings: &config::Place) -> Result<Self, PlaceError> {
        let owner = settings.owner.as_deref().map(user).transpose()?;
        let group = settings.group.as_deref().map(group).transpose()?;
        let mut access = Self { owner, group, ..Self::default() };
        for reader in &settings.readers {
            match reader {
                Reader::Group(name) => access.groups.push(self::group(name)?),
                Reader::User(name) => access.users.push(user(name)?),
            }
        }
        // acl(5): entries of a kind stand in the order of their numbers.
        access.users.sort_unstable();
        access.groups.sort_unstable();
        Ok(access)
    }

    /// Sets all of it, and looks whether it is so.
    pub(super) fn set(&self, file: &File, path: &Path, secret: bool) -> Result<(), PlaceError> {
        let set = |error: Errno| system("set the access to", path, error);
        if self.owner.is_some() || self.group.is_some() {
            let owner = self.owner.map(Uid::from_raw);
            fchown(file, owner, self.group.map(Gid::from_raw)).map_err(set)?;
        }
        let list = self.list().filter(|_| secret);
        let mode = match (secret, &list, self.group) {
            (false, ..) => 0o644,
            // Of a file with a list, the group's bits are its mask (acl(5)).
            (true, Some(_), _) | (true, None, Some(_)) => 0o640,
            (true, None, None) => 0o600,
        };
        // What the directory handed down (acl(5), default lists) would count beside the mode.
        match fremovexattr(file, LIST) {
            Ok(()) | Err(Errno::NODATA | Errno::OPNOTSUPP) => {}
            Err(error) => return Err(set(error)),
        }
        fchmod(file, Mode::from_raw_mode(mode)).map_err(set)?;
        if let Some(list) = &list {
            fsetxattr(file, LIST, list, XattrFlags::empty()).map_err(set)?;
        }
        self.check(file, path, mode, list.as_deref())
    }

    fn check(
        &self,
        file: &File,
        path: &Path,
        mode: u32,
        list: Option<&[u8]>,
    ) -> Result<(), PlaceError> {
        let refused = |what| Err(PlaceError::Access { path: path.to_owned(), what });
        let status = file.metadata().map_err(|error| system("look at", path, error))?;
        if self.owner.is_some_and(|owner| owner != status.uid()) {
            return refused("owner");
        }
        if self.group.is_some_and(|group| group != status.gid()) {
            return refused("group");
        }
        if status.permissions().mode() & 0o7777 != mode {
            return refused("mode");
        }
        let mut found = [0_u8; LONGEST];
        let found = match fgetxattr(file, LIST, &mut found) {
            Ok(length) => found.get(..length),
            Err(_) => None,
        };
        if found != list { refused("list of readers") } else { Ok(()) }
    }

    /// As the kernel keeps it (linux/posix_acl_xattr.h): a version, then for each entry tag,
    /// permissions and number, little-endian.
    fn list(&self) -> Option<Vec<u8>> {
        if self.users.is_empty() && self.groups.is_empty() {
            return None;
        }
        let own_group = if self.group.is_some() { R } else { 0 };
        let mut entries = vec![(USER_OBJ, R | W, NOBODY)];
        entries.extend(self.users.iter().map(|id| (USER, R, *id)));
        entries.push((GROUP_OBJ, own_group, NOBODY));
        entries.extend(self.groups.iter().map(|id| (GROUP, R, *id)));
        entries.extend([(MASK, R, NOBODY), (OTHER, 0, NOBODY)]);
        let mut list = VERSION.to_le_bytes().to_vec();
        for (tag, permissions, id) in entries {
            list.extend(tag.to_le_bytes());
            list.extend(permissions.to_le_bytes());
            list.extend(id.to_le_bytes());
        }
        Some(list)
    }
}

fn user(name: &str) -> Result<u32, PlaceError> {
    accounts::user(name).ok_or_else(|| PlaceError::Unknown { what: "user", name: name.to_owned() })
}

fn group(name: &str) -> Result<u32, PlaceError> {
    accounts::group(name)
        .ok_or_else(|| PlaceError::Unknown { what: "group", name: name.to_owned() })
}

const LIST: &str = "system.posix_acl_access";
/// More than a list of a hundred readers.
const LONGEST: usize = 1024;
const VERSION: u32 = 2;
const USER_OBJ: u16 = 0x01;
const USER: u16 = 0x02;
const GROUP_OBJ: u16 = 0x04;
const GROUP: u16 = 0x08;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;
const R: u16 = 4;
const W: u16 = 2;
/// Where an entry is of no one in particular.
const NOBODY: u32 = u32::MAX;
