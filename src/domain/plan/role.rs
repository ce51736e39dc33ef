//! The fields that the code itself reads, and what they mean to it.

use crate::domain::code::codes;

codes! {
    /// The role of a field that the code reads. Its code is the name of the field in the plan's
    /// data.
    FieldRole {
        /// The field holds Matomo's site.
        Site = "idsite",
        /// The field holds the visitor.
        User = "uid",
        /// The field holds the time of the hit.
        Time = "cdt",
        /// The field says whether the hit is of the web or of a native application.
        Technology = "dimension11",
        /// The field is the constant 1, with which Matomo records the hit.
        Record = "rec",
        /// The field is the version of the Tracking API, the constant 1.
        ApiVersion = "apiv",
        /// The field is random, so that no cache answers.
        Random = "rand",
        /// The field holds Matomo's own visitor id.
        VisitorId = "_id",
        /// The field identifies the page view.
        PageView = "pv_id",
        /// The field holds the schools.
        Uai = "dimension1",
        /// The field holds the user's profile.
        Profile = "dimension2",
        /// The field says who runs the ENT.
        Exploitant = "dimension3",
        /// The field says which ENT it is.
        Plateforme = "dimension4",
        /// The field holds the tool.
        Tool = "dimension6",
        /// The field says whether the page is the platform's own.
        Type = "dimension7",
        /// The field holds the service.
        Service = "dimension8",
        /// The field holds the address of the page.
        Page = "url",
        /// The field holds the user agent of the browser.
        UserAgent = "ua",
    }
}

impl FieldRole {
    /// The roles without which no hit can be sent, whatever a plan says.
    pub(super) const REQUIRED: [Self; 4] = [Self::Site, Self::User, Self::Time, Self::Technology];
}
