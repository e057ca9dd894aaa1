#!/bin/sh
# Makes the secrets of the profile `secure` in compose.yaml: certificates, passwords, keys.
#
#     deploy/secure/make-secrets.sh [FOLDER]      by default, secrets/ beside this file
#
# Needs openssl 1.1.1 or newer.  What is there stays: to renew a secret, delete its file (for a
# certificate, *-cert and *-key) and run this again.  ca-key signs certificates; no container
# gets it, and it may be kept elsewhere.
set -eu
umask 077

folder=${1:-$(dirname "$0")/secrets}
mkdir -p "$folder"
chmod 700 "$folder" # the files may be read by the users of the containers, the folder by you
cd "$folder"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

say() {
    echo "make-secrets: $1" >&2
}

new_key() {
    openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1" 2>/dev/null
}

# certificate NAME SUBJECT_ALTERNATIVE_NAMES
certificate() {
    if [ -e "$1-cert" ] && [ -e "$1-key" ]; then return; fi
    if [ ! -e ca-key ]; then
        say "put ca-key into $PWD first: $1-cert is to be signed with it"
        exit 1
    fi
    new_key "$1-key"
    openssl req -new -key "$1-key" -subj "/CN=$1" -out "$scratch/request"
    printf '%s\n' "subjectAltName=$2" "basicConstraints=CA:FALSE" \
        "keyUsage=digitalSignature" "extendedKeyUsage=serverAuth" >"$scratch/extensions"
    openssl x509 -req -in "$scratch/request" -CA ca -CAkey ca-key \
        -set_serial "0x$(openssl rand -hex 16)" -days 365 -sha256 -extfile "$scratch/extensions" \
        -out "$1-cert" 2>/dev/null
    say "$1-cert, for $2, ends in a year"
}

authority() {
    if [ -e ca ]; then return; fi
    new_key ca-key
    printf '%s\n' '[req]' 'distinguished_name=name' 'x509_extensions=extensions' '[name]' \
        '[extensions]' 'basicConstraints=critical,CA:TRUE' \
        'keyUsage=critical,keyCertSign,cRLSign' 'subjectKeyIdentifier=hash' >"$scratch/authority"
    openssl req -x509 -new -key ca-key -sha256 -days 3650 -subj "/CN=kitmsg" \
        -config "$scratch/authority" -out ca
    say "ca, the authority of the certificates"
}

# The users of users.conf: each container has its own password, NATS has all.
passwords() {
    for user in addsvc gateway client cli; do
        [ -e "$user-password" ] || openssl rand -hex 32 >"$user-password"
        name=$(echo "$user" | tr '[:lower:]-' '[:upper:]_')
        echo "KITMSG_PASSWORD_$name: \"$(cat "$user-password")\""
    done >"$scratch/passwords"
    cat "$scratch/passwords" >nats-passwords
}

# The gateway signs who called; services believe the public half.
signing_key() {
    [ -e signing-key ] || openssl genpkey -algorithm ed25519 -out signing-key
    openssl pkey -in signing-key -pubout -out trusted-keys
}

# The door has the digest; the key itself is for the caller.
api_key() {
    [ -e api-key ] || echo "kit_$(openssl rand -hex 32)" >api-key
    sum=$(tr -d '\n' <api-key | openssl dgst -sha256 -r | cut -d ' ' -f 1)
    echo "demo:\$sha256\$$sum" >api-keys
}

authority
certificate nats DNS:nats-secure,DNS:localhost
certificate door DNS:localhost,IP:127.0.0.1
passwords
signing_key
api_key
chmod 644 ./*
chmod 600 api-key cli-password client-password
if [ -e ca-key ]; then chmod 600 ca-key; fi
