//! The plan: what a ceremony makes, in which order. It says nothing of places and secrets.

pub(crate) mod file;
pub(crate) mod input;
pub mod lint;

use std::{collections::BTreeMap, fmt, fs, io, path::Path};

use pki::{
    ssh::Usage,
    token::KeyId,
    x509::lint::{Finding, Findings},
};
use thiserror::Error;

pub use crate::steps::{
    back_up_key::BackUpKey,
    destroy_key::DestroyKey,
    generate_key::Key,
    human::Human,
    pin_rotate::PinRotate,
    restore_drill::RestoreDrill,
    shares_verify::SharesVerify,
    sign_certificate::{AuthorityKind, Certificate},
    split_shares::Split,
    take_break::TakeBreak,
};
use crate::{
    digest::Digest,
    environment::Demands,
    name::Name,
    people::People,
    steps::{
        Kind, check_environment::CheckEnvironment, close::Close, export::Export, hand_off::HandOff,
        import_certificate::ReturningCertificate, import_request::ForeignRequest,
        request_certificate::OwnRequest, sign_crl::Crl, sign_off::SignOff, token_init::TokenInit,
        use_certificate::ExistingCertificate, use_key::ExistingKey,
    },
    words::words,
};

/// A plan that passed every lint, and its hash.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Plan {
    script: Script,
    canonical: Vec<u8>,
    hash: Digest,
}

/// The resolved content of a plan, as the transcript keeps it: every step says all of what it makes.
///
/// CA/Browser Forum BR 6.1.1.1 calls it the Key Generation Script.
#[derive(Clone, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub struct Script {
    /// The version of this form.
    pub schema: Schema,
    /// What the ceremony is called.
    pub id: Name,
    /// What is done, in this order.
    pub steps: Vec<Step>,
    /// SSH CAs: a key becomes one by being handed off as one; nothing is signed for it.
    pub ssh: BTreeMap<Name, SshAuthority>,
    /// Who takes part; nobody in a plan of one person's.
    #[serde(default, skip_serializing_if = "People::is_empty")]
    pub people: People,
    /// What the machine must be like.
    #[serde(default, skip_serializing_if = "Demands::is_empty")]
    pub machine: Demands,
}

/// The versions of the form of a plan.
#[derive(Clone, Copy, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
pub enum Schema {
    /// The first.
    #[serde(rename = "chancery-ceremony/1")]
    V1,
}

/// One step; [`steps`](crate::steps) says what each kind is.
#[derive(Clone, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// Make a key pair in the token, and a copy in the backup token.
    BackUpKey(BackUpKey),
    /// Pause, with nobody logged in.
    Break(TakeBreak),
    /// Look at the machine once more.
    CheckEnvironment,
    /// Close the transcript.
    Close,
    /// Destroy a key pair.
    DestroyKey(DestroyKey),
    /// Close the transcript and write what others need.
    Export,
    /// Make a key pair in the token.
    GenerateKey(Key),
    /// Close the transcript and write what the appliance reads.
    HandOff,
    /// Let people do something, and write down what they read.
    Human(Human),
    /// Make the PIN of verified shares the token's.
    PinRotate(PinRotate),
    /// Let the copy of a key sign.
    RestoreDrill(RestoreDrill),
    /// Let every share of a set be read back.
    SharesVerify(SharesVerify),
    /// Take in the certificate that another machine signed.
    ImportCertificate(ReturningCertificate),
    /// Take in the request of another machine.
    ImportRequest(ForeignRequest),
    /// Sign a request for a certificate, and write it out.
    RequestCertificate(OwnRequest),
    /// Sign a CA certificate.
    SignCertificate(Certificate),
    /// Sign a revocation list.
    SignCrl(Crl),
    /// Let everybody who is present sign what was recorded.
    SignOff,
    /// Split a secret among custodians.
    SplitShares(Split),
    /// Set the label, the SO PIN and the user PIN of an uninitialized token.
    TokenInit,
    /// Take in a certificate that is there already.
    UseCertificate(ExistingCertificate),
    /// Find a key in the token that an earlier ceremony made.
    UseKey(ExistingKey),
}

/// An SSH CA to be handed off.
#[derive(Clone, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub struct SshAuthority {
    /// The plan's name of its key.
    pub key: Name,
    /// What its certificates are for.
    pub usage: Usage,
}

impl Plan {
    /// Reads a plan file (TOML) and lints it.
    ///
    /// # Errors
    ///
    /// The file cannot be read, is no plan, or breaks rules, all of which are named.
    pub fn read(path: &Path) -> Result<Self, PlanError> {
        let text = fs::read_to_string(path)
            .map_err(|source| PlanError::Read { path: path.display().to_string(), source })?;
        Self::parse_in(&text, path.parent().unwrap_or(Path::new("")))
    }

    /// Reads the text of a plan file that names no other files, and lints it.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read).
    pub fn parse(text: &str) -> Result<Self, PlanError> {
        Self::parse_in(text, Path::new(""))
    }

    /// Reads the text of a plan file in this directory, with what it names from there.
    fn parse_in(text: &str, directory: &Path) -> Result<Self, PlanError> {
        let mut file: file::PlanFile = toml::from_str(text)?;
        file.directory = directory.to_owned();
        let (script, mut findings) = file.resolve();
        findings.extend(lint::lint(&script));
        Self::linted(script, findings)
    }

    /// Lints a resolved script, wherever it came from.
    ///
    /// # Errors
    ///
    /// It breaks rules, all of which are named.
    pub fn new(script: Script) -> Result<Self, PlanError> {
        let findings = lint::lint(&script);
        Self::linted(script, findings)
    }

    fn linted(script: Script, findings: Vec<Finding>) -> Result<Self, PlanError> {
        if !findings.is_empty() {
            return Err(PlanError::Findings(Findings(findings)));
        }
        // Struct fields keep their order, maps are sorted, and there are no floats: one script has
        // one text.
        let canonical = serde_json::to_vec(&script).map_err(PlanError::Canonical)?;
        let hash = Digest::of("chancery-ceremony-plan-v1", &[&canonical]);
        Ok(Self { script, canonical, hash })
    }

    /// The content.
    pub fn script(&self) -> &Script {
        &self.script
    }

    /// The one text of it, in JSON.
    pub fn canonical(&self) -> &[u8] {
        &self.canonical
    }

    /// `SHA-256("chancery-ceremony-plan-v1\0" || canonical JSON)`.
    pub fn hash(&self) -> Digest {
        self.hash
    }

    /// The steps with their numbers, from 1.
    pub fn steps(&self) -> impl Iterator<Item = (u32, &Step)> {
        (1..).zip(&self.script.steps)
    }

    /// The keys that are made.
    pub fn keys(&self) -> impl Iterator<Item = &Key> {
        self.script.steps.iter().filter_map(|step| match step {
            Step::BackUpKey(BackUpKey { key }) | Step::GenerateKey(key) => Some(key),
            _ => None,
        })
    }

    /// The certificates that are signed or taken in.
    pub fn certificates(&self) -> impl Iterator<Item = &Certificate> {
        self.script.steps.iter().filter_map(|step| step.kind().certificate())
    }

    /// The certificate of this name.
    pub fn certificate(&self, name: &Name) -> Option<&Certificate> {
        self.certificates().find(|certificate| certificate.name == *name)
    }

    /// The certificate whose key signs this one; `None` for a root.
    pub fn signer(&self, certificate: &Certificate) -> Option<&Certificate> {
        match &certificate.kind {
            AuthorityKind::Cross { signer, .. } | AuthorityKind::Issuing { signer, .. } => {
                self.certificate(signer)
            }
            AuthorityKind::Root { .. } => None,
        }
    }

    /// Whether requests go out to other machines, or certificates come back.
    pub fn exchanges(&self) -> bool {
        self.script
            .steps
            .iter()
            .any(|step| matches!(step, Step::ImportCertificate(_) | Step::RequestCertificate(_)))
    }

    /// The revocation lists that are signed.
    pub fn crls(&self) -> impl Iterator<Item = &Crl> {
        self.script.steps.iter().filter_map(|step| match step {
            Step::SignCrl(crl) => Some(crl),
            _ => None,
        })
    }

    /// Whether an appliance reads what was made.
    pub fn is_for_appliance(&self) -> bool {
        self.script.steps.contains(&Step::HandOff)
    }

    /// Whether the token is initialized first.
    pub fn initializes_token(&self) -> bool {
        self.script.steps.contains(&Step::TokenInit)
    }

    /// Whether copies of keys go into another token.
    pub fn backs_up(&self) -> bool {
        self.script.steps.iter().any(|step| matches!(step, Step::BackUpKey(_)))
    }

    /// Whether another token than the one of the ceremony must be there.
    pub fn needs_backup_token(&self) -> bool {
        let drill = |step: &Step| matches!(step, Step::RestoreDrill(_));
        self.backs_up() || self.script.steps.iter().any(drill)
    }

    /// Whether some steps are people's alone.
    pub fn needs_people(&self) -> bool {
        self.script.steps.iter().any(|step| step.kind().needs_people())
    }

    /// Whether the appliance gets something of it, or others do.
    pub fn hands_off(&self) -> bool {
        self.is_for_appliance() || self.script.steps.contains(&Step::Export)
    }

    /// The CKA_ID of a key, chosen before the key is made, so that what an interrupted ceremony
    /// left in a token can be told from everything else.
    pub fn key_id(&self, key: &Name) -> KeyId {
        let parts = [&self.hash.as_bytes()[..], key.as_str().as_bytes()];
        let [a, b, c, d, e, f, g, h, ..] =
            *Digest::of("chancery-ceremony-key-v1", &parts).as_bytes();
        KeyId::from([a, b, c, d, e, f, g, h])
    }

    /// The two words that a person types before a step, or before what is done about its
    /// interruption: they differ from effect to effect, from step to step and from plan to plan, so
    /// that nobody confirms what they did not read.
    ///
    /// Each person of the plan has words of their own.
    pub fn confirmation(&self, number: u32, effect: &str, person: Option<&Name>) -> String {
        let number = u64::from(number).to_be_bytes();
        // A name has neither spaces nor line ends, and so cannot be a part of the effect.
        let person = person.map(|name| format!("{name}\n")).unwrap_or_default();
        let parts = [&self.hash.as_bytes()[..], &number, person.as_bytes(), effect.as_bytes()];
        words(&Digest::of("chancery-ceremony-confirm-v1", &parts).as_bytes()[..2])
    }
}

impl Step {
    /// What a person should know before the step besides its effect.
    pub fn details(&self) -> Option<String> {
        self.kind().details()
    }

    /// What it is.
    pub(crate) fn kind(&self) -> &dyn Kind {
        match self {
            Self::BackUpKey(key) => key,
            Self::Break(pause) => pause,
            Self::CheckEnvironment => &CheckEnvironment,
            Self::Close => &Close,
            Self::DestroyKey(destruction) => destruction,
            Self::GenerateKey(key) => key,
            Self::HandOff => &HandOff,
            Self::Human(human) => human,
            Self::PinRotate(rotation) => rotation,
            Self::RestoreDrill(drill) => drill,
            Self::SharesVerify(verification) => verification,
            Self::Export => &Export,
            Self::ImportCertificate(certificate) => certificate,
            Self::ImportRequest(request) => request,
            Self::RequestCertificate(request) => request,
            Self::SignCertificate(certificate) => certificate,
            Self::SignCrl(crl) => crl,
            Self::SignOff => &SignOff,
            Self::SplitShares(split) => split,
            Self::TokenInit => &TokenInit,
            Self::UseCertificate(certificate) => certificate,
            Self::UseKey(key) => key,
        }
    }
}

/// What the step changes, as a sentence without its full stop.
impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.kind().effect())
    }
}

/// A plan cannot be used.
#[derive(Debug, Error)]
pub enum PlanError {
    /// The plan has no canonical text.
    #[error("the plan cannot be written as JSON")]
    Canonical(#[source] serde_json::Error),
    /// The plan breaks rules.
    #[error("the plan breaks {} rule(s); nothing was touched", .0.0.len())]
    Findings(Findings),
    /// The file cannot be read.
    #[error("cannot read the plan {path}")]
    Read {
        /// Which.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// The file is no plan.
    #[error("the plan cannot be understood")]
    Syntax(#[from] toml::de::Error),
}
