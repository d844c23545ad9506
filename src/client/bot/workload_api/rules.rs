//! Which peer gets which identities.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
};

use pki::names::SpiffeId;
use serde::Deserialize;

use super::{
    grpc::{Code, Status},
    message::{Given, Svid},
    peer::Peer,
};
use crate::accounts::{Group, User};

/// Gives an identity to the peers of which all that is named here holds.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(try_from = "RawRule")]
pub(super) struct Rule {
    spiffe_id: SpiffeId,
    user: Option<User>,
    group: Option<Group>,
    executable: Option<PathBuf>,
    sha256: Option<[u8; 32]>,
    hint: Option<String>,
}

/// At least one rule.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(try_from = "Vec<Rule>")]
pub(super) struct Rules(Vec<Rule>);

/// What a peer may have: ids and hints.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Granted(Vec<(SpiffeId, Option<String>)>);

impl Rules {
    /// All that they give to anybody.
    pub(super) fn spiffe_ids(&self) -> BTreeSet<&SpiffeId> {
        self.0.iter().map(|rule| &rule.spiffe_id).collect()
    }

    /// What they give to a peer.
    ///
    /// # Errors
    ///
    /// They give nothing.
    pub(super) async fn grant(&self, peer: &Arc<Peer>) -> Result<Granted, Status> {
        let fitting: Vec<_> = self.0.iter().filter(|rule| rule.fits(peer)).cloned().collect();
        let asked = Arc::clone(peer);
        // A large program takes a while to read.
        let granted = tokio::task::spawn_blocking(move || {
            fitting.into_iter().filter(|rule| rule.fits_program(&asked)).collect::<Vec<_>>()
        });
        let granted = granted.await.unwrap_or_default();
        if granted.is_empty() {
            tracing::warn!(%peer, "no rule of the Workload API gives it anything");
            // These words are SPIRE's, and known to clients.
            return Err(Status::new(Code::PermissionDenied, "no identity issued"));
        }
        Ok(Granted(granted.into_iter().map(|rule| (rule.spiffe_id, rule.hint)).collect()))
    }
}

impl Rule {
    fn fits(&self, peer: &Peer) -> bool {
        self.user.is_none_or(|User(uid)| uid == peer.uid)
            && self.group.is_none_or(|Group(gid)| gid == peer.gid)
    }

    fn fits_program(&self, peer: &Peer) -> bool {
        let executable = self.executable.as_ref().map(|wanted| {
            peer.executable().map(|found| (found == *wanted, found.display().to_string()))
        });
        let digest = self
            .sha256
            .map(|wanted| peer.digest().map(|found| (found == wanted, hex::encode(found))));
        [executable, digest].into_iter().flatten().all(|looked_at| match looked_at {
            Ok((fits, found)) => {
                if !fits {
                    tracing::warn!(%peer, id = self.spiffe_id.as_str(), found, "another program");
                }
                fits
            }
            Err(error) => {
                tracing::warn!(
                    %peer, %error,
                    "its program cannot be seen: the agent needs CAP_SYS_PTRACE for that"
                );
                false
            }
        })
    }
}

impl Granted {
    /// The ids.
    pub(super) fn ids(&self) -> Vec<&str> {
        self.0.iter().map(|(id, _)| id.as_str()).collect()
    }

    /// What there is of them.
    pub(super) fn of<'a>(
        &'a self,
        svids: &'a BTreeMap<SpiffeId, Svid>,
    ) -> impl Iterator<Item = Given<'a>> {
        self.0.iter().filter_map(|(id, hint)| svids.get(id).map(|svid| (id, svid, hint.as_deref())))
    }
}

impl TryFrom<Vec<Rule>> for Rules {
    type Error = &'static str;

    fn try_from(rules: Vec<Rule>) -> Result<Self, &'static str> {
        match rules.is_empty() {
            true => Err("there is no [[output.rule]]: nobody would get anything"),
            false => Ok(Self(rules)),
        }
    }
}

/// As the file has it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRule {
    spiffe_id: SpiffeId,
    user: Option<User>,
    group: Option<Group>,
    executable: Option<PathBuf>,
    sha256: Option<String>,
    hint: Option<String>,
}

impl TryFrom<RawRule> for Rule {
    type Error = String;

    fn try_from(raw: RawRule) -> Result<Self, String> {
        let RawRule { spiffe_id, user, group, executable, sha256, hint } = raw;
        if user.is_none() && group.is_none() {
            return Err(format!(
                "the rule for {} names neither user nor group: it would be for everybody",
                spiffe_id.as_str()
            ));
        }
        if executable.as_ref().is_some_and(|path| !path.is_absolute()) {
            return Err(format!("the executable for {} has no absolute path", spiffe_id.as_str()));
        }
        let sha256 = sha256.map(|text| {
            let mut digest = [0; 32];
            hex::decode_to_slice(&text, &mut digest)
                .map_err(|_| format!("{text:?} is no SHA-256: it has 64 hexadecimal digits"))?;
            Ok::<_, String>(digest)
        });
        Ok(Self { spiffe_id, user, group, executable, sha256: sha256.transpose()?, hint })
    }
}
