//! The fields that the code itself reads, by what they mean.

use crate::domain::code::codes;

codes! {
    /// A field with a meaning to the code; its code is the name that the plan's data gives it.
    FieldRole {
        /// Matomo's site.
        Site = "idsite",
        /// The visitor.
        User = "uid",
        /// The time.
        Time = "cdt",
        /// Web or native application.
        Technology = "dimension11",
        /// Constant 1.
        Record = "rec",
        /// Constant 1.
        ApiVersion = "apiv",
        /// Against caches.
        Random = "rand",
        /// Matomo's own visitor id.
        VisitorId = "_id",
        /// The page view.
        PageView = "pv_id",
        /// The schools.
        Uai = "dimension1",
        /// The user's profile.
        Profile = "dimension2",
        /// Who runs the ENT.
        Exploitant = "dimension3",
        /// The ENT.
        Plateforme = "dimension4",
        /// The tool.
        Tool = "dimension6",
        /// The service.
        Service = "dimension8",
        /// The browser.
        UserAgent = "ua",
    }
}

impl FieldRole {
    /// Without these no hit can be sent, whatever a plan says.
    pub(super) const NEEDED: [Self; 4] = [Self::Site, Self::User, Self::Time, Self::Technology];
}
