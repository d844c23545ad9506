//! The applications: PIV (SP 800-73-4 part 2) with Yubico's commands, and Yubico's management.

use std::{collections::BTreeMap, mem};

use aws_lc_rs::rand;

use super::{
    Kind, Status,
    attestation::Attestation,
    key::{Key, RSA_3072, RSA_4096},
    management_key::{AES_192, ManagementKey, NEVER, TRIPLE_DES},
    reference::Reference,
    tlv::{find, take, tlv},
};
use crate::failure::Failure;

/// What is on the card, and what the one who talks to it has shown.
#[derive(Debug)]
pub(super) struct Applet {
    kind: Kind,
    serial: u32,
    attestation: Attestation,
    pin: Reference,
    puk: Reference,
    management_key: ManagementKey,
    keys: BTreeMap<u8, Key>,
    /// As GET DATA answers them: tag 53, length, value.
    objects: BTreeMap<u32, Vec<u8>>,
    session: Session,
}

/// What is forgotten without power and when an application is selected.
#[derive(Debug, Default)]
struct Session {
    selected: Option<Application>,
    pin_verified: bool,
    /// The PIN was verified by the command right before.
    pin_just_verified: bool,
    authenticated: bool,
    witness: Option<Vec<u8>>,
    challenge: Option<Vec<u8>>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Application {
    Management,
    Piv,
}

impl Applet {
    pub(super) fn new(kind: Kind, serial: u32) -> Result<Self, Failure> {
        let attestation = Attestation::new()
            .map_err(|_| Failure::new("cannot make a virtual card's attestation CA"))?;
        Ok(Self {
            kind,
            serial,
            objects: BTreeMap::from([attestation_object(&attestation)]),
            attestation,
            pin: Reference::default_pin(3),
            puk: Reference::default_puk(3),
            management_key: default_management_key(kind),
            keys: BTreeMap::new(),
            session: Session::default(),
        })
    }

    pub(super) fn object(&self, id: u32) -> Option<Vec<u8>> {
        self.objects.get(&id).cloned()
    }

    pub(super) fn set_object(&mut self, id: u32, answer: Option<&[u8]>) {
        match answer {
            Some(answer) => self.objects.insert(id, answer.to_vec()),
            None => self.objects.remove(&id),
        };
    }

    pub(super) fn set_pin_tries_left(&mut self, left: u8) {
        self.pin.left = left;
    }

    pub(super) fn tries_left(&self) -> (u8, u8) {
        (self.pin.left, self.puk.left)
    }

    pub(super) fn attestation_root(&self) -> Vec<u8> {
        self.attestation.root.clone()
    }

    pub(super) fn power(&mut self) {
        self.session = Session::default();
    }

    /// Carries a whole command out.
    pub(super) fn perform(
        &mut self,
        instruction: u8,
        [p1, p2]: [u8; 2],
        data: &[u8],
    ) -> Result<Vec<u8>, Status> {
        match (instruction, self.session.selected) {
            (SELECT, _) => self.select(p1, data),
            (READ_CONFIGURATION, Some(Application::Management)) => Ok(self.configuration()),
            (_, Some(Application::Piv)) => self.piv(instruction, [p1, p2], data),
            _ => Err(Status::UNKNOWN_INSTRUCTION),
        }
    }

    fn select(&mut self, p1: u8, name: &[u8]) -> Result<Vec<u8>, Status> {
        if p1 != 4 {
            return Err(Status::WRONG_PARAMETERS);
        }
        let (application, answer) = if self.kind != Kind::Foreign && names_piv(name) {
            // SP 800-73-4 part 2, table 3: the application's identifier and its authority.
            (Application::Piv, [tlv(0x61, PIV_PROPERTIES)].concat())
        } else if self.is_yubikey() && name == MANAGEMENT_ID {
            let [major, minor, patch] = self.version();
            let text = format!("Virtual mgr - FW version {major}.{minor}.{patch}");
            (Application::Management, text.into_bytes())
        } else {
            return Err(Status::NOT_FOUND);
        };
        self.session = Session { selected: Some(application), ..Session::default() };
        Ok(answer)
    }

    /// What ykman asks first: which applications there are, serial number, form, version.
    fn configuration(&self) -> Vec<u8> {
        let items = [
            tlv(1, &[0x02, 0x3f]),
            tlv(2, &self.serial.to_be_bytes()),
            tlv(3, &[0x00, 0x10]),
            tlv(4, &[1]),
            tlv(5, &self.version()),
        ]
        .concat();
        [vec![items.len() as u8], items].concat()
    }

    fn piv(
        &mut self,
        instruction: u8,
        parameters: [u8; 2],
        data: &[u8],
    ) -> Result<Vec<u8>, Status> {
        let pin_just_verified = mem::take(&mut self.session.pin_just_verified);
        match instruction {
            VERIFY => self.verify(parameters, data),
            CHANGE_REFERENCE_DATA => self.change_reference(parameters, data),
            RESET_RETRY_COUNTER => self.unblock(parameters, data),
            GENERAL_AUTHENTICATE if parameters[1] == MANAGEMENT_KEY => {
                self.authenticate(parameters[0], data)
            }
            GENERAL_AUTHENTICATE => self.use_key(parameters, data, pin_just_verified),
            GENERATE => self.generate(parameters[1], data),
            GET_DATA => self.get_data(data),
            PUT_DATA => self.put_data(data),
            _ if !self.is_yubikey() => Err(Status::UNKNOWN_INSTRUCTION),
            ATTEST => self.attest(parameters[0]),
            DELETE_KEY if self.kind == Kind::YubiKey57 => self.move_key(parameters),
            GET_METADATA => self.metadata(parameters[1]),
            GET_SERIAL => Ok(self.serial.to_be_bytes().to_vec()),
            GET_VERSION => Ok(self.version().to_vec()),
            IMPORT => self.import(parameters, data),
            RESET => self.reset(),
            SET_MANAGEMENT_KEY => self.set_management_key(parameters, data),
            SET_RETRIES => self.set_retries(parameters),
            _ => Err(Status::UNKNOWN_INSTRUCTION),
        }
    }

    fn verify(&mut self, [p1, p2]: [u8; 2], pin: &[u8]) -> Result<Vec<u8>, Status> {
        if p2 != PIN {
            return Err(Status::NO_SUCH_KEY);
        }
        if p1 == 0xff {
            self.session.pin_verified = false;
        } else if pin.is_empty() {
            // SP 800-73-4 part 2 section 3.2.1: no data asks whether it was verified.
            return if self.session.pin_verified { Ok(vec![]) } else { Err(self.pin.refusal()) };
        } else {
            self.session.pin_verified = false;
            self.pin.check(pin)?;
            (self.session.pin_verified, self.session.pin_just_verified) = (true, true);
        }
        Ok(vec![])
    }

    fn change_reference(&mut self, [_, p2]: [u8; 2], data: &[u8]) -> Result<Vec<u8>, Status> {
        let (old, new) = two_references(data)?;
        let reference = match p2 {
            PIN => &mut self.pin,
            PUK => &mut self.puk,
            _ => return Err(Status::NO_SUCH_KEY),
        };
        reference.check(old)?;
        reference.set(new)?;
        Ok(vec![])
    }

    fn unblock(&mut self, [_, p2]: [u8; 2], data: &[u8]) -> Result<Vec<u8>, Status> {
        let (puk, new) = two_references(data)?;
        if p2 != PIN {
            return Err(Status::NO_SUCH_KEY);
        }
        self.puk.check(puk)?;
        self.pin.set(new)?;
        Ok(vec![])
    }

    /// SP 800-73-4 part 2, tables 18 to 20: mutual (witness and challenge) or of the host alone.
    fn authenticate(&mut self, algorithm: u8, data: &[u8]) -> Result<Vec<u8>, Status> {
        let template = authentication_template(data)?;
        if algorithm != self.management_key.algorithm {
            return Err(Status::WRONG_DATA);
        }
        match [0x80, 0x81, 0x82].map(|tag| find(template, tag)) {
            [Some([]), None, _] => {
                let witness = random(self.management_key.block())?;
                let encrypted = self.management_key.encrypt(&witness)?;
                self.session.witness = Some(witness);
                Ok(tlv(0x7c, &tlv(0x80, &encrypted)))
            }
            [Some(witness), Some(challenge), _] => {
                if self.session.witness.take().as_deref() != Some(witness) {
                    return Err(Status::NOT_AUTHENTICATED);
                }
                let response = self.management_key.encrypt(challenge)?;
                self.session.authenticated = true;
                Ok(tlv(0x7c, &tlv(0x82, &response)))
            }
            [None, Some([]), _] => {
                let challenge = random(self.management_key.block())?;
                self.session.challenge = Some(challenge.clone());
                Ok(tlv(0x7c, &tlv(0x81, &challenge)))
            }
            [None, None, Some(response)] => {
                let challenge = self.session.challenge.take().ok_or(Status::NOT_ALLOWED)?;
                if self.management_key.encrypt(&challenge)? != response {
                    return Err(Status::NOT_AUTHENTICATED);
                }
                self.session.authenticated = true;
                Ok(vec![])
            }
            _ => Err(Status::WRONG_DATA),
        }
    }

    fn use_key(
        &self,
        [algorithm, slot]: [u8; 2],
        data: &[u8],
        pin_just_verified: bool,
    ) -> Result<Vec<u8>, Status> {
        let template = authentication_template(data)?;
        let key = self.keys.get(&slot).ok_or(Status::NOT_ALLOWED)?;
        if key.algorithm != algorithm {
            return Err(Status::WRONG_DATA);
        }
        let allowed = match key.pin_policy {
            PIN_NEVER => true,
            PIN_ONCE => self.session.pin_verified,
            _ => self.session.pin_verified && pin_just_verified,
        };
        if !allowed {
            return Err(Status::NOT_AUTHENTICATED);
        }
        let answer = match (find(template, 0x81), find(template, 0x85)) {
            (Some(input), None) => key.sign(input)?,
            (None, Some(point)) => key.agree(point)?,
            _ => return Err(Status::WRONG_DATA),
        };
        Ok(tlv(0x7c, &tlv(0x82, &answer)))
    }

    fn generate(&mut self, slot: u8, data: &[u8]) -> Result<Vec<u8>, Status> {
        self.require_management_key()?;
        let (0xac, template, []) = take(data)? else { return Err(Status::WRONG_DATA) };
        let Some(&[algorithm]) = find(template, 0x80) else { return Err(Status::WRONG_DATA) };
        let (pin_policy, touch_policy) = self.policies(slot, algorithm, template)?;
        let key = Key::generate(algorithm, pin_policy, touch_policy)?;
        let public = key.public()?;
        self.keys.insert(slot, key);
        Ok([vec![0x7f], tlv(0x49, &public)].concat())
    }

    fn import(&mut self, [algorithm, slot]: [u8; 2], data: &[u8]) -> Result<Vec<u8>, Status> {
        self.require_management_key()?;
        let (pin_policy, touch_policy) = self.policies(slot, algorithm, data)?;
        let key = Key::import(algorithm, data, pin_policy, touch_policy)?;
        self.keys.insert(slot, key);
        Ok(vec![])
    }

    /// The policies AA (PIN) and AB (touch), or the slot's own.
    fn policies(&self, slot: u8, algorithm: u8, data: &[u8]) -> Result<(u8, u8), Status> {
        if !is_key_slot(slot) {
            return Err(Status::WRONG_PARAMETERS);
        }
        if matches!(algorithm, RSA_3072 | RSA_4096) && self.kind != Kind::YubiKey57 {
            return Err(Status::WRONG_DATA);
        }
        let policy = |tag| match find(data, tag) {
            None => Ok(0),
            Some(&[policy @ 0..=3]) => Ok(policy),
            Some(_) => Err(Status::WRONG_DATA),
        };
        let pin = match (policy(0xaa)?, slot) {
            (0, 0x9c) => PIN_ALWAYS,
            (0, 0x9e) => PIN_NEVER,
            (0, _) => PIN_ONCE,
            (pin, _) => pin,
        };
        Ok((pin, policy(0xab)?.max(NEVER)))
    }

    fn move_key(&mut self, [to, from]: [u8; 2]) -> Result<Vec<u8>, Status> {
        self.require_management_key()?;
        let key = self.keys.remove(&from).ok_or(Status::NO_SUCH_KEY)?;
        if to != 0xff {
            self.keys.insert(to, key);
        }
        Ok(vec![])
    }

    fn get_data(&self, data: &[u8]) -> Result<Vec<u8>, Status> {
        let (0x5c, id, []) = take(data)? else { return Err(Status::WRONG_DATA) };
        // SP 800-73-4 part 1 section 3.3.2: the discovery object is not in a tag 53.
        if id == [0x7e] {
            return Ok(tlv(0x7e, &[tlv(0x4f, PIV_ID), DISCOVERY_POLICY.to_vec()].concat()));
        }
        let id = object_id(id).ok_or(Status::NOT_FOUND)?;
        if NEED_PIN.contains(&id) && !self.session.pin_verified {
            return Err(Status::NOT_AUTHENTICATED);
        }
        self.object(id).ok_or(Status::NOT_FOUND)
    }

    fn put_data(&mut self, data: &[u8]) -> Result<Vec<u8>, Status> {
        self.require_management_key()?;
        let (0x5c, id, rest) = take(data)? else { return Err(Status::WRONG_DATA) };
        let (0x53, value, []) = take(rest)? else { return Err(Status::WRONG_DATA) };
        let id = object_id(id).filter(|id| OBJECTS.contains(id)).ok_or(Status::WRONG_DATA)?;
        if value.is_empty() {
            self.objects.remove(&id);
            return Ok(vec![]);
        }
        let others = self.objects.iter().filter(|(other, _)| **other != id);
        let used: usize = others.map(|(_, object)| object.len()).sum();
        if value.len() > LONGEST_OBJECT || used + rest.len() > OBJECT_SPACE {
            return Err(Status::FULL);
        }
        self.objects.insert(id, rest.to_vec());
        Ok(vec![])
    }

    fn attest(&self, slot: u8) -> Result<Vec<u8>, Status> {
        // A key that was imported is not attested.
        let key = self.keys.get(&slot).filter(|key| key.generated).ok_or(Status::WRONG_DATA)?;
        self.attestation.attest(slot, key, self.version(), self.serial)
    }

    fn metadata(&self, slot: u8) -> Result<Vec<u8>, Status> {
        match slot {
            PIN => Ok(self.pin.metadata()),
            PUK => Ok(self.puk.metadata()),
            MANAGEMENT_KEY => Ok(self.management_key.metadata()),
            _ => self.keys.get(&slot).ok_or(Status::NO_SUCH_KEY)?.metadata(),
        }
    }

    fn set_management_key(&mut self, [p1, p2]: [u8; 2], data: &[u8]) -> Result<Vec<u8>, Status> {
        self.require_management_key()?;
        let touch = match (p1, p2) {
            (0xff, 0xff) => NEVER,
            (0xff, 0xfe) => ALWAYS,
            _ => return Err(Status::WRONG_PARAMETERS),
        };
        let [algorithm, MANAGEMENT_KEY, length, ref key @ ..] = *data else {
            return Err(Status::WRONG_DATA);
        };
        if usize::from(length) != key.len() {
            return Err(Status::WRONG_DATA);
        }
        self.management_key = ManagementKey::new(algorithm, key, touch)?;
        Ok(vec![])
    }

    /// PIN and PUK have their default values again afterwards.
    fn set_retries(&mut self, [pin, puk]: [u8; 2]) -> Result<Vec<u8>, Status> {
        self.require_management_key()?;
        if !self.session.pin_verified {
            return Err(Status::NOT_AUTHENTICATED);
        }
        if pin == 0 || puk == 0 {
            return Err(Status::WRONG_PARAMETERS);
        }
        (self.pin, self.puk) = (Reference::default_pin(pin), Reference::default_puk(puk));
        Ok(vec![])
    }

    /// Everything as from the factory, but for the attestation key.
    fn reset(&mut self) -> Result<Vec<u8>, Status> {
        if self.pin.left != 0 || self.puk.left != 0 {
            return Err(Status::NOT_ALLOWED);
        }
        (self.pin, self.puk) = (Reference::default_pin(3), Reference::default_puk(3));
        self.management_key = default_management_key(self.kind);
        self.keys.clear();
        self.objects = BTreeMap::from([attestation_object(&self.attestation)]);
        self.session = Session { selected: Some(Application::Piv), ..Session::default() };
        Ok(vec![])
    }

    fn require_management_key(&self) -> Result<(), Status> {
        if self.session.authenticated { Ok(()) } else { Err(Status::NOT_AUTHENTICATED) }
    }

    fn is_yubikey(&self) -> bool {
        matches!(self.kind, Kind::YubiKey54 | Kind::YubiKey57)
    }

    fn version(&self) -> [u8; 3] {
        if self.kind == Kind::YubiKey57 { [5, 7, 1] } else { [5, 4, 3] }
    }
}

fn default_management_key(kind: Kind) -> ManagementKey {
    let algorithm = if kind == Kind::YubiKey57 { AES_192 } else { TRIPLE_DES };
    ManagementKey::default_of(algorithm)
}

/// Yubico's object with the certificate of F9; it has neither 71 nor FE.
fn attestation_object(attestation: &Attestation) -> (u32, Vec<u8>) {
    (ATTESTATION_CERTIFICATE, tlv(0x53, &tlv(0x70, &attestation.certificate)))
}

/// An application is also selected by the beginning of its name (ISO 7816-4).
fn names_piv(name: &[u8]) -> bool {
    name.len() >= 5 && (PIV_ID.starts_with(name) || name.starts_with(&PIV_ID[..9]))
}

fn two_references(data: &[u8]) -> Result<(&[u8], &[u8]), Status> {
    if data.len() != 16 {
        return Err(Status::WRONG_DATA);
    }
    Ok(data.split_at(8))
}

fn authentication_template(data: &[u8]) -> Result<&[u8], Status> {
    match take(data)? {
        (0x7c, template, _) => Ok(template),
        _ => Err(Status::WRONG_DATA),
    }
}

fn object_id(bytes: &[u8]) -> Option<u32> {
    let [high, middle, low] = *bytes else { return None };
    Some(u32::from_be_bytes([0, high, middle, low]))
}

fn is_key_slot(slot: u8) -> bool {
    matches!(slot, 0x82..=0x95 | 0x9a | 0x9c | 0x9d | 0x9e)
}

fn random(length: usize) -> Result<Vec<u8>, Status> {
    let mut bytes = vec![0; length];
    rand::fill(&mut bytes).map_err(|_| Status::WRONG_DATA)?;
    Ok(bytes)
}

// SP 800-73-4 part 2.
const VERIFY: u8 = 0x20;
const CHANGE_REFERENCE_DATA: u8 = 0x24;
const RESET_RETRY_COUNTER: u8 = 0x2c;
const GENERATE: u8 = 0x47;
const GENERAL_AUTHENTICATE: u8 = 0x87;
const SELECT: u8 = 0xa4;
const GET_DATA: u8 = 0xcb;
const PUT_DATA: u8 = 0xdb;

// Yubico's.
const READ_CONFIGURATION: u8 = 0x1d;
const DELETE_KEY: u8 = 0xf6;
const GET_METADATA: u8 = 0xf7;
const GET_SERIAL: u8 = 0xf8;
const ATTEST: u8 = 0xf9;
const SET_RETRIES: u8 = 0xfa;
const RESET: u8 = 0xfb;
const GET_VERSION: u8 = 0xfd;
const IMPORT: u8 = 0xfe;
const SET_MANAGEMENT_KEY: u8 = 0xff;

const PIN: u8 = 0x80;
const PUK: u8 = 0x81;
const MANAGEMENT_KEY: u8 = 0x9b;
const PIN_NEVER: u8 = 1;
const PIN_ONCE: u8 = 2;
const PIN_ALWAYS: u8 = 3;
const ALWAYS: u8 = 2;

const PIV_ID: &[u8] = b"\xa0\x00\x00\x03\x08\x00\x00\x10\x00\x01\x00";
const PIV_PROPERTIES: &[u8] =
    b"\x4f\x06\x00\x00\x10\x00\x01\x00\x79\x07\x4f\x05\xa0\x00\x00\x03\x08";
const MANAGEMENT_ID: &[u8] = b"\xa0\x00\x00\x05\x27\x47\x11\x17";
const DISCOVERY_POLICY: &[u8] = b"\x5f\x2f\x02\x40\x00";

/// Where objects may be.
const OBJECTS: std::ops::RangeInclusive<u32> = 0x5f_0000..=0x5f_ffff;
/// Fingerprints, facial image, printed information, iris images.
const NEED_PIN: [u32; 4] = [0x5f_c103, 0x5f_c108, 0x5f_c109, 0x5f_c121];
const ATTESTATION_CERTIFICATE: u32 = 0x5f_ff01;
/// Of one object, in bytes, and of all.
const LONGEST_OBJECT: usize = 3_063;
const OBJECT_SPACE: usize = 51_200;
