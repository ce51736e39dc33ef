//! The rules and their stable codes. What each rule says, and how severe it is, is data of the
//! plan.

use super::code::codes;

codes! {
    /// A rule of the plan. Its stable code stands in `x-dnma-violations`, metrics and reports.
    ///
    /// A new kind of rule is a variant here, a check in `validate/` (`check.rs` for what is wrong,
    /// `normalise.rs` for what is changed on the way out, `warnings.rs` for what is unwise), and a
    /// table `[rules.CODE]` with its severity and texts in the plan's data.
    Rule {
        /// The message has more than 64 KiB.
        TooLarge = "too-large",
        /// The message has no readable form: it is empty, not UTF-8, or neither JSON nor a query
        /// string.
        Malformed = "malformed",
        /// The message is JSON, but not an object.
        NotAnObject = "not-an-object",
        /// The message is of a form that is known, and that is no hit's: an envelope, many hits at
        /// once, or a hit that was packed or encoded once more.
        ForeignForm = "foreign-form",
        /// The message has more parameters than any hit has.
        TooManyFields = "too-many-fields",
        /// A parameter name is longer than any parameter has.
        NameTooLong = "name-too-long",
        /// The same field is given twice, so that which one is meant would be a guess.
        DuplicateField = "duplicate-field",
        /// The value is neither text nor number.
        WrongType = "wrong-type",
        /// The value has a C0 control character or DEL.
        ControlCharacter = "control-character",
        /// A mandatory field is not there.
        Missing = "missing",
        /// A mandatory field has nothing in it.
        Empty = "empty",
        /// A field is not there that is mandatory but for exceptions, and the list of these is not
        /// loaded.
        MissingUnlessException = "missing-unless-exception",
        /// The tool is not there, or empty, in a hit of the platform's own pages, for which the
        /// plan both allows that and forbids it.
        MissingUnlessNative = "missing-unless-native",
        /// A mandatory field is not there, and the hit has a parameter that seems to be it by
        /// another name.
        MisnamedParameter = "misnamed-parameter",
        /// The value has more characters than the plan accepts.
        TooLong = "too-long",
        /// The value is not in the field's closed list.
        NotInList = "not-in-list",
        /// The list of a field is not loaded, so the field is not checked. This is reported once
        /// for a whole check, not for each hit.
        ListNotLoaded = "list-not-loaded",
        /// The value is a spelling that the plan uses in one place only.
        Alias = "alias",
        /// The value is in decomposed Unicode (NFD), and in a list in composed Unicode (NFC).
        DecomposedText = "decomposed-text",
        /// The value has UTF-8 that was read as another encoding, or a character reference of HTML.
        DoubleEncoding = "double-encoding",
        /// The value has a character without width, or begins or ends with a space that is none of
        /// ASCII.
        InvisibleCharacter = "invisible-character",
        /// `idsite` is a number with a sign or with zeros before it.
        SiteForm = "site-form",
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
        /// `cdt` is over the age limit, and there is no token.
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
        /// A GAR code stands in place of a service.
        GarCode = "gar-code",
        /// A GAR code comes with another tool than the GAR's.
        GarTool = "gar-tool",
        /// The GAR's tool comes with a service that the GAR does not have.
        GarService = "gar-service",
        /// A directory's profile stands in place of the DNMA's.
        NationalProfile = "national-profile",
        /// A UAI is in lower case.
        UaiLowerCase = "uai-lower-case",
        /// The UAIs of `dimension1` are not separated by a comma and one space, as RFTI §3.2.3 has
        /// it.
        UaiSpaces = "uai-spaces",
        /// The value has not the form of a UAI.
        UaiForm = "uai-form",
        /// The check letter of a UAI is wrong.
        UaiKey = "uai-key",
        /// The value is longer than the plan recommends.
        LongValue = "long-value",
        /// The value is longer than Matomo keeps.
        CutByMatomo = "cut-by-matomo",
        /// The value is longer than Matomo keeps once it has escaped it for HTML.
        CutAfterEscaping = "cut-after-escaping",
        /// `url` has a parameter that Matomo takes for the keyword of a site search.
        SiteSearch = "site-search",
        /// `url` has a parameter that names a campaign.
        Campaign = "campaign",
        /// The value looks like an e-mail address, a phone number, an INE or a name.
        PersonalData = "personal-data",
        /// Matomo takes the user agent for a robot's.
        UaBot = "ua-bot",
        /// The plan does not know the parameter.
        UnknownParameter = "unknown-parameter",
        /// The message's routing key is not the `uid`, so the hits of this visitor may lie in
        /// several shards and overtake each other.
        RoutingKey = "routing-key",
        /// A visit dimension has another value than earlier in the visit.
        VisitDimensionChanged = "visit-dimension-changed",
        /// The message's AMQP user may not send for this exploitant, platform or site.
        WrongTenant = "wrong-tenant",
        /// The message has no AMQP user, or one that no tenant has.
        UnknownTenant = "unknown-tenant",
    }
}

codes! {
    /// How severe a violation is; the most severe is the last. The plan's data gives it to each
    /// rule.
    Severity {
        /// Nothing is wrong, but something was not checked.
        Information = "information",
        /// The hit is delivered and the violation counted, unless validation is strict.
        Warning = "warning",
        /// The hit is rejected, unless validation only observes.
        Error = "error",
    }
}

/// A language of texts for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Language {
    /// The texts are in English.
    #[default]
    English,
    /// The texts are in French.
    French,
}

impl Language {
    /// Chooses the text in this language.
    pub fn of<'t>(self, english: &'t str, french: &'t str) -> &'t str {
        match self {
            Self::English => english,
            Self::French => french,
        }
    }
}
