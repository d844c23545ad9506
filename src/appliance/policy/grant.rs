/// What policy granted, and nothing else can be issued.
#[derive(Clone, Debug)]
pub struct Grant {}
