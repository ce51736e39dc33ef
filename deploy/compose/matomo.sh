#!/bin/bash
# Sets Matomo up for the relay: installs it, opens a site, its custom dimensions in the scopes of the RFTI, and a token. What is there
# already stays as it is, so that this can run at every start. Runs in Matomo's own image, beside a Matomo that answers.
#
# Matomo cannot be installed by its console, so this fills in its installer as a person would; all else goes through console and API.
set -euo pipefail
cd /var/www/html

matomo=http://matomo
login=${MATOMO_LOGIN:?} password=${MATOMO_PASSWORD:?}

say() { echo "matomo-setup: $*"; }

step() { # action, fields of its form
    local action=$1 fields=()
    for field in "${@:2}"; do fields+=(--data-urlencode "$field"); done
    curl --silent --show-error --fail --output /dev/null "${fields[@]}" "$matomo/index.php?module=Installation&action=$action"
}

api() { # method, parameters: never in the address, where logs would keep them
    local method=$1 fields=()
    for field in "${@:2}"; do fields+=(--data-urlencode "$field"); done
    curl --silent --show-error --fail --data "module=API&method=$method&format=json" "${fields[@]}" "$matomo/index.php"
}

# The value, or the number of items, of the JSON on standard input.
# shellcheck disable=SC2016 # variables of PHP
read_json() {
    php -r '$json = json_decode(stream_get_contents(STDIN), true);
        $answer = ["value" => $json["value"] ?? null, "count" => is_array($json) && array_is_list($json) ? count($json) : null][$argv[1]];
        if ($answer === null) { fwrite(STDERR, "Matomo refuses: " . ($json["message"] ?? "no JSON") . "\n"); exit(1); }
        echo $answer;' "$1"
}

is_installed() { [ -f config/config.ini.php ] && ! grep -q installation_in_progress config/config.ini.php; }

if ! is_installed; then
    say "installing"
    step databaseSetup type=InnoDB "host=${MATOMO_DATABASE_HOST:?}" "username=${MATOMO_DATABASE_USERNAME:?}" \
        "password=${MATOMO_DATABASE_PASSWORD:?}" "dbname=${MATOMO_DATABASE_DBNAME:?}" tables_prefix=matomo_ 'adapter=PDO\MYSQL' submit=Next
    step tablesCreation
    step setupSuperUser "login=$login" "password=$password" "password_bis=$password" email=admin@example.org \
        subscribe_newsletter_piwikorg=0 subscribe_newsletter_professionalservices=0 submit=Next
    step firstWebsiteSetup siteName=ENT url=https://ent.example.fr timezone=Europe/Paris ecommerce=0 submit=Next
    step finished do_not_track=0 anonymise_ip=1 submit=Continue
    is_installed || { say "the installer did not finish: open $matomo"; exit 1; }
fi

# The names under which the relays and a person's browser know it.
./console config:set --quiet "General.trusted_hosts=[\"matomo\",\"localhost:${MATOMO_PORT:?}\",\"127.0.0.1:$MATOMO_PORT\"]"

if ! [ -s /token/token ]; then
    say "a token of write access"
    # Not "secure only": Matomo refuses such a token in a bulk request.
    api UsersManager.createAppSpecificTokenAuth "userLogin=$login" "passwordConfirmation=$password" description=dnma-relay secureOnly=0 \
        | read_json value > /token/new
    # For the relay, which runs as somebody else.
    chmod 444 /token/new
    mv /token/new /token/token
fi
token=$(cat /token/token)

# Matomo numbers dimensions in the order in which they are made, so each gets the number that the RFTI gave it.
dimensions=(
    "UAI action 1" "Profil visit 1" "Exploitant visit 1" "Plateforme visit 1" "(unused) visit 0" "Outil action 1"
    "Type_de_service action 1" "Service action 1" "Module action 1" "Rubrique action 1" "Technologie visit 1"
)
made=$(api CustomDimensions.getConfiguredCustomDimensions idSite=1 "token_auth=$token" | read_json count)
if [ "$made" = 0 ]; then
    # A fresh Matomo has five places of each scope; the RFTI has six dimensions of actions.
    ./console customdimensions:add-custom-dimension --scope=action --count=1 --no-interaction >/dev/null
fi
for dimension in "${dimensions[@]:$made}"; do
    read -r name scope active <<< "$dimension"
    number=$(api CustomDimensions.configureNewCustomDimension idSite=1 "name=${name//_/ }" "scope=$scope" "active=$active" "token_auth=$token" | read_json value)
    say "dimension$number is $name ($scope)"
done
say "ready: http://localhost:$MATOMO_PORT, user $login"
