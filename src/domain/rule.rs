//! The rules by their stable codes. What each says, and how grave it is, is data of the plan.

use super::code::codes;

codes! {
    /// A rule of the plan, by its stable code: in `x-dnma-violations`, metrics and reports. A new kind of rule is a variant
    /// here, its check in `validate.rs`, and its severity and texts in the plan's data.
    Rule {
        /// Over 64 KiB.
        TooLarge = "too-large",
        /// No readable form: not UTF-8, not JSON, not a query string, empty.
        Malformed = "malformed",
        /// JSON, but not an object.
        NotAnObject = "not-an-object",
        /// More parameters than any hit has.
        TooManyFields = "too-many-fields",
        /// A parameter name longer than any parameter has.
        NameTooLong = "name-too-long",
        /// The same field twice: which one is meant is a guess.
        DuplicateField = "duplicate-field",
        /// Neither text nor number.
        WrongType = "wrong-type",
        /// A C0 control character or DEL.
        ControlCharacter = "control-character",
        /// A mandatory field that is not there.
        Missing = "missing",
        /// A mandatory field with nothing in it.
        Empty = "empty",
        /// A field that is mandatory but for exceptions which the plan does not list.
        MissingUnlessException = "missing-unless-exception",
        /// More characters than the plan accepts.
        TooLong = "too-long",
        /// Not a value of the field's closed list.
        NotInList = "not-in-list",
        /// The list that a field is taken from is not loaded: the field is not checked. Said of a whole check, not of each hit.
        ListNotLoaded = "list-not-loaded",
        /// A spelling that the plan uses in one place only.
        Alias = "alias",
        /// `uid` is `0`, which Matomo takes for no user at all.
        UidUnusable = "uid-unusable",
        /// `cdt` is no time.
        CdtUnreadable = "cdt-unreadable",
        /// `cdt` is in milliseconds.
        CdtMilliseconds = "cdt-milliseconds",
        /// `cdt` lies in the future.
        CdtFuture = "cdt-future",
        /// `cdt` lies one or two hours in the future.
        CdtLocalTime = "cdt-local-time",

        /// `cdt` is missing, and the AMQP message carries a time.
        CdtFromMessage = "cdt-from-message",
        /// `cdt` is over 24 h old, and there is no token.
        CdtTooOld = "cdt-too-old",
        /// `cdt` is older than the plan.
        CdtBeforePlan = "cdt-before-plan",
        /// `rec` or `apiv` is not 1.
        WrongConstant = "wrong-constant",
        /// `rand` has not 7 or 8 characters.
        RandLength = "rand-length",
        /// `_id` is not 16 hexadecimal digits.
        IdNotHex = "id-not-hex",
        /// `_id` or `pv_id` repeats `uid`.
        IdIsUid = "id-is-uid",
        /// `uid` looks like an e-mail address, a login or a name.
        UidNotPseudonymised = "uid-not-pseudonymised",
        /// A GAR code in place of a service.
        GarCode = "gar-code",
        /// A GAR code with another tool than the GAR's.
        GarTool = "gar-tool",
        /// The GAR's tool with a service that the GAR does not have.
        GarService = "gar-service",
        /// A directory's profile in place of the DNMA's.
        NationalProfile = "national-profile",
        /// A UAI in lower case.
        UaiLowerCase = "uai-lower-case",
        /// Spaces around the commas of `dimension1`.
        UaiSpaces = "uai-spaces",
        /// Not a UAI's form.
        UaiForm = "uai-form",
        /// A UAI whose check letter is wrong.
        UaiKey = "uai-key",
        /// Longer than the plan recommends.
        LongValue = "long-value",
        /// Longer than Matomo keeps.
        CutByMatomo = "cut-by-matomo",
        /// What looks like an e-mail address, a phone number, an INE or a name.
        PersonalData = "personal-data",
        /// A user agent that Matomo takes for a robot's.
        UaBot = "ua-bot",
        /// A parameter that the plan does not know.
        UnknownParameter = "unknown-parameter",
        /// A visit dimension with another value than earlier in the visit.
        VisitDimensionChanged = "visit-dimension-changed",
        /// An exploitant, platform or site that the message's AMQP user may not send for.
        WrongTenant = "wrong-tenant",
        /// No AMQP user, or one that no tenant has.
        UnknownTenant = "unknown-tenant",
    }
}

codes! {
    /// How grave a violation is, the gravest last: data of the plan, not of the code.
    Severity {
        /// Nothing is wrong, but something was not checked.
        Information = "information",
        /// Delivered and counted, unless validation is strict.
        Warning = "warning",
        /// Rejected, unless validation only observes.
        Error = "error",
    }
}

/// The language of a text for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Language {
    /// English.
    #[default]
    English,
    /// French.
    French,
}

impl Language {
    /// The text in this language.
    pub fn of<'t>(self, english: &'t str, french: &'t str) -> &'t str {
        match self {
            Self::English => english,
            Self::French => french,
        }
    }
}
