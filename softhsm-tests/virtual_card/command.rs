//! Commands and answers (ISO 7816-4): their form, chaining, answers in parts.

/// SW1 and SW2.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Status(pub u16);

impl Status {
    /// Carried out.
    pub const SUCCESS: Self = Self(0x9000);
    /// Lc and the data do not agree.
    pub const WRONG_LENGTH: Self = Self(0x6700);
    /// A PIN or key was not shown.
    pub const NOT_AUTHENTICATED: Self = Self(0x6982);
    /// No tries are left.
    pub const BLOCKED: Self = Self(0x6983);
    /// Not now.
    pub const NOT_ALLOWED: Self = Self(0x6985);
    /// The data is wrong.
    pub const WRONG_DATA: Self = Self(0x6a80);
    /// There is no such object or application.
    pub const NOT_FOUND: Self = Self(0x6a82);
    /// No room is left.
    pub const FULL: Self = Self(0x6a84);
    /// P1 or P2 is wrong.
    pub const WRONG_PARAMETERS: Self = Self(0x6a86);
    /// There is no such key.
    pub const NO_SUCH_KEY: Self = Self(0x6a88);
    /// There is no such command.
    pub const UNKNOWN_INSTRUCTION: Self = Self(0x6d00);

    /// A wrong PIN; so many tries are left.
    pub const fn wrong_pin(left: u8) -> Self {
        Self(0x63c0 | left as u16)
    }

    /// The answer that ends with this.
    pub(super) fn answer(self, data: &[u8]) -> Vec<u8> {
        [data, &self.0.to_be_bytes()].concat()
    }

    /// The status of an answer.
    pub(super) fn of(answer: &[u8]) -> Option<Self> {
        let (_, status) = answer.split_last_chunk()?;
        Some(Self(u16::from_be_bytes(*status)))
    }
}

/// A command APDU.
pub(super) struct Command<'a> {
    pub(super) class: u8,
    pub(super) instruction: u8,
    pub(super) parameters: [u8; 2],
    pub(super) data: &'a [u8],
    /// How many bytes the answer may have.
    expected: usize,
}

impl<'a> Command<'a> {
    /// Reads a short or an extended APDU (ISO 7816-4 section 5.1).
    pub(super) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let [class, instruction, p1, p2, ref body @ ..] = *bytes else { return None };
        let (data, expected): (&[u8], usize) = match *body {
            [] => (&[], 256),
            [le] => (&[], short(le)),
            [0, _, _] => (&[], 65_536),
            [0, high, low, ref rest @ ..] => {
                let length = usize::from(u16::from_be_bytes([high, low]));
                (rest.get(..length)?, 65_536)
            }
            [lc, ref rest @ ..] => match *rest.split_at_checked(usize::from(lc))?.1 {
                [] => (rest, 256),
                [le] => (&rest[..usize::from(lc)], short(le)),
                _ => return None,
            },
        };
        Some(Self { class, instruction, parameters: [p1, p2], data, expected })
    }
}

/// Zero is the largest Le there is.
fn short(le: u8) -> usize {
    if le == 0 { 256 } else { usize::from(le) }
}

/// Parts of a command that came already, and of an answer that are to be fetched.
#[derive(Debug, Default)]
pub(super) struct Framing {
    command: Vec<u8>,
    answer: Vec<u8>,
}

impl Framing {
    /// Answers a command, and has it carried out when it is whole.
    pub(super) fn transmit(
        &mut self,
        command: &Command,
        perform: impl FnOnce(u8, [u8; 2], &[u8]) -> Result<Vec<u8>, Status>,
    ) -> Vec<u8> {
        if command.instruction == GET_RESPONSE {
            return self.send(command.expected);
        }
        self.answer.clear();
        self.command.extend_from_slice(command.data);
        if command.class & MORE_FOLLOWS != 0 {
            return Status::SUCCESS.answer(&[]);
        }
        let data = std::mem::take(&mut self.command);
        match perform(command.instruction, command.parameters, &data) {
            Ok(answer) => {
                self.answer = answer;
                self.send(command.expected)
            }
            Err(status) => status.answer(&[]),
        }
    }

    fn send(&mut self, expected: usize) -> Vec<u8> {
        let length = expected.min(self.answer.len());
        let part: Vec<u8> = self.answer.drain(..length).collect();
        let status = match self.answer.len() {
            0 => Status::SUCCESS,
            // 61xx: so many bytes are still there, 00 when they are 256 or more.
            rest => Status(0x6100 | u16::from(u8::try_from(rest).unwrap_or(0))),
        };
        status.answer(&part)
    }
}

const GET_RESPONSE: u8 = 0xc0;
const MORE_FOLLOWS: u8 = 0x10;
