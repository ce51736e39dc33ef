//! Hits as an ENT publishes them: valid ones with an identity each, and a school morning from a
//! seed.

use serde_json::{Value, json};

pub const SERVICES: [&str; 26] = [
    "ACCUEIL",
    "ACTUALITES",
    "CAHIER_TEXTES",
    "CAHIER_LIAISON",
    "COURRIER_ELECTRONIQUE",
    "MESSAGERIE_INSTANTANEE",
    "VISIOCONFERENCE",
    "STOCKAGE_PARTAGE",
    "PRODUCTION_COLLABORATIVE",
    "DOCUMENTATION_CDI",
    "PARCOURS_PEDAGOGIQUE",
    "RESERVATION_SALLES_MATERIELS",
    "SERVICE_COLLECTIVITE",
    "SERVICES_VIE_SCOLAIRE",
    "GESTION_TEMPS",
    "ABSENCES",
    "GESTION_COMPETENCES",
    "NOTES",
    "MANUEL_NUMERIQUE",
    "RESSOURCE_MULTIMEDIA",
    "RESSOURCE_ORIENTATION",
    "RESSOURCE_PRODUCTION",
    "RESSOURCE_ACCOMPAGNEMENT_ENTRAINEMENT",
    "RESSOURCE_REFERENCER_DICIONNAIRE",
    "RESSOURCE_DOCUMENTAIRE",
    "PAGE_ENT",
];

pub const PROFILES: [&str; 6] =
    ["ELEVE", "ENSEIGNANT", "PARENT", "ADMIN_VIE_SCOL_TECH", "PERSONNEL_COLLECTIVITE", "AUTRE"];

const SCHOOLS: [&str; 5] = ["0750655E", "0350029S", "0690132U", "9740471U", "0331503E"];

const BROWSERS: [&str; 3] = [
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:140.0) Gecko/20100101 Firefox/140.0",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like \
     Gecko) Version/18.6 Mobile/15E148 Safari/604.1",
    "Mozilla/5.0 (Linux; Android 15) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/139.0.0.0 \
     Mobile Safari/537.36",
];

/// A pseudonym, as an ENT makes one.
pub fn visitor(number: usize) -> String {
    let mut state = number as u64 + 1;
    format!("{:016x}{:016x}", splitmix(&mut state), splitmix(&mut state))
}

/// A hit that breaks no rule. `id` is its identity in the ledger, carried by `action_name`.
pub fn valid(visitor: &str, id: &str) -> Value {
    valid_at(visitor, id, jiff::Timestamp::now().as_second())
}

pub fn valid_at(visitor: &str, id: &str, cdt: i64) -> Value {
    let pick = visitor.bytes().map(usize::from).sum::<usize>();
    let turn = pick + id.bytes().map(usize::from).sum::<usize>();
    json!({
        "idsite": "1",
        "uid": visitor,
        "url": format!("https://ent.example.fr/service/{turn}?onglet=agenda"),
        "url_ref": "https://ent.example.fr/accueil",
        "dimension1": SCHOOLS[pick % SCHOOLS.len()],
        "dimension2": PROFILES[pick % PROFILES.len()],
        "dimension3": "EXPLOITANT_A",
        "dimension4": "PLATEFORME_A",
        "dimension6": "ENT_CŒUR",
        "dimension7": if turn % 4 == 0 { "TIERS" } else { "NATIF" },
        "dimension8": SERVICES[turn % SERVICES.len()],
        "dimension9": "Vie scolaire",
        "dimension10": "Élèves & familles",
        "dimension11": if pick % 3 == 0 { "APPLI_NATIVE" } else { "WEB-PWA" },
        "action_name": id,
        "cdt": cdt,
        "ua": BROWSERS[pick % BROWSERS.len()],
    })
}

/// Valid hits of so many visitors in turn, ready to publish. Their identity is their number: `hit
/// 17`.
pub fn load(
    numbers: std::ops::Range<usize>,
    visitors: usize,
) -> impl Iterator<Item = (String, Vec<u8>)> {
    numbers.map(move |number| {
        let visitor = visitor(number % visitors);
        let body = valid(&visitor, &format!("hit {number}")).to_string().into_bytes();
        (visitor, body)
    })
}

/// A hit with one field changed.
pub fn with(mut hit: Value, field: &str, value: Value) -> Value {
    hit[field] = value;
    hit
}

/// A hit with one field taken away.
pub fn without(mut hit: Value, field: &str) -> Value {
    if let Some(fields) = hit.as_object_mut() {
        fields.remove(field);
    }
    hit
}

/// Small, seeded, and the same on every machine.
pub fn splitmix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A message of the morning: whose it is, and what the ENT sent.
pub struct Message {
    pub visitor: String,
    pub body: Vec<u8>,
    pub breaks_the_plan: bool,
}

/// A realistic school morning: logins whose first two hits come within a second, visits of several
/// pages, about 2 % of hits that break the plan in the ways ENTs do, and both message forms.
pub fn morning(seed: u64, count: usize) -> Vec<Message> {
    let mut state = seed;
    let visitors = (count / 8).max(1);
    let now = jiff::Timestamp::now().as_second();
    let mut messages = Vec::with_capacity(count);
    while messages.len() < count {
        let visitor = visitor((splitmix(&mut state) as usize) % visitors);
        // A login fires the portal's page and the landing service at once.
        let burst = if splitmix(&mut state).is_multiple_of(3) { 2 } else { 1 };
        for _ in 0..burst.min(count - messages.len()) {
            let id = format!("page {}", messages.len());
            let hit = valid_at(&visitor, &id, now);
            let (hit, breaks_the_plan) = if splitmix(&mut state).is_multiple_of(50) {
                (broken(hit, splitmix(&mut state)), true)
            } else {
                (hit, false)
            };
            let body = if splitmix(&mut state).is_multiple_of(5) && !breaks_the_plan {
                query(&hit).into_bytes()
            } else {
                hit.to_string().into_bytes()
            };
            messages.push(Message { visitor: visitor.clone(), body, breaks_the_plan });
        }
    }
    messages
}

fn broken(hit: Value, kind: u64) -> Value {
    match kind % 6 {
        0 => with(hit, "dimension8", json!("CANTINE")),
        1 => without(hit, "dimension2"),
        2 => with(hit, "cdt", json!("25/11/2024 16:11")),
        3 => with(hit, "dimension7", json!("")),
        4 => with(hit, "dimension3", json!("E".repeat(256))),
        _ => with(hit, "dimension1", json!(["0750655E"])),
    }
}

/// The same hit as a query string.
pub fn query(hit: &Value) -> String {
    let mut out = url::form_urlencoded::Serializer::new("?".to_owned());
    for (name, value) in hit.as_object().into_iter().flatten() {
        out.append_pair(name, &value.as_str().map_or_else(|| value.to_string(), str::to_owned));
    }
    out.finish()
}
