use jiff::Timestamp;
use pki::names::{Sid, Upn};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What directory and rules say of an account, and which roles would give smart-card certificates
/// of it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
pub struct AccountReport {
    /// The user principal name that was asked for.
    #[schema(value_type = String)]
    pub upn: Upn,
    /// What the organisation's directory says.
    pub directory: DirectoryAnswer,
    /// What is pinned in the rules.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pinned: Option<PinnedAccount>,
    /// Whether both have the same SID; absent unless both have one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agree: Option<bool>,
    /// The roles that are about the account, by name.
    pub roles: Vec<AccountRole>,
}

/// The account that a certificate logs on to.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
pub struct LogonAccount {
    /// Its user principal name.
    #[schema(value_type = String)]
    pub upn: Upn,
    /// Its SID.
    #[schema(value_type = String)]
    pub sid: Sid,
    /// Who said that the SID is the account's.
    #[serde(flatten)]
    pub source: LogonSource,
}

/// Who said which SID an account has.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
#[serde(tag = "source", rename_all = "snake_case")]
pub enum LogonSource {
    /// The organisation's directory.
    Directory {
        /// The distinguished name of the entry.
        entry: String,
        /// When it was asked.
        #[schema(value_type = String)]
        asked_at: Timestamp,
    },
    /// The appliance's rules, in which the account is pinned.
    Rules {},
}

/// What the organisation's directory says of a user principal name.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum DirectoryAnswer {
    /// More than one account has it.
    Ambiguous {
        /// When the directory was asked.
        #[schema(value_type = String)]
        asked_at: Timestamp,
    },
    /// One account has it.
    Found {
        /// As the directory writes it.
        #[schema(value_type = String)]
        upn: Upn,
        /// The account's objectSid.
        #[schema(value_type = String)]
        sid: Sid,
        /// The distinguished name.
        name: String,
        /// Whether it may log on.
        enabled: bool,
        /// The SIDs of its groups, those of groups in groups included.
        groups: Vec<String>,
        /// Those among them whose members are protected.
        protected_by: Vec<String>,
        /// When the directory was asked: an account may be known from some seconds before.
        #[schema(value_type = String)]
        asked_at: Timestamp,
    },
    /// No account has it.
    Nobody {
        /// When the directory was asked.
        #[schema(value_type = String)]
        asked_at: Timestamp,
    },
    /// The appliance has no directory.
    NotConfigured {},
    /// The directory cannot be asked.
    Unavailable {
        /// A stable word: `directory-refuses` or `directory-unreachable`.
        reason: String,
        /// In words.
        detail: String,
    },
    /// An account has it that can have no certificate.
    Unfit {
        /// Why.
        detail: String,
        /// When the directory was asked.
        #[schema(value_type = String)]
        asked_at: Timestamp,
    },
}

/// An account as the rules pin it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
pub struct PinnedAccount {
    /// Its user principal name.
    #[schema(value_type = String)]
    pub upn: Upn,
    /// Its SID.
    #[schema(value_type = String)]
    pub sid: Sid,
}

/// A role that is about an account.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
pub struct AccountRole {
    /// The role.
    pub role: String,
    /// Who would get the certificate.
    pub whose: AccountWhose,
    /// Why the role does not give it; absent if it does. Schedule, sessions and locks come on top.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub denied: Option<AccountDenial>,
}

/// Who would get a certificate of an account.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AccountWhose {
    /// Those who have the role, for somebody else.
    Others,
    /// The caller who is called as the account is.
    Own,
}

/// Why a role does not give a certificate of an account: as the problem would say it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
pub struct AccountDenial {
    /// The stable word.
    pub reason: String,
    /// In words.
    pub detail: String,
    /// What to do about it.
    pub hint: String,
}
