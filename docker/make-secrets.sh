#!/bin/sh
# Makes the secrets of docker-compose.yml that are not there yet, and a self-signed certificate. Changes nothing that is.
#
#   docker/make-secrets.sh [DOMAIN]          DOMAIN: what the certificate is for, default localhost
#
# Compose mounts a secret as the file it is, owner and mode included, and every service runs under an account of its
# own. So the files may be read by all (0444) and the directory may be entered by its owner alone (0700): on this
# machine nobody else gets at them, and a container sees only those that are mounted into it.
set -eu
domain=${1:-localhost}
umask 077
cd "${SECRETS:-$(dirname "$0")/secrets}"
chmod 700 .

put() { # put NAME: standard input becomes the secret, whole or not at all
    cat > ".$1.new"
    chmod 444 ".$1.new"
    mv ".$1.new" "$1"
    echo "made $1"
}

random() { openssl rand -hex 32; }

for name in postgres_password sms_owner_password sms_api_password sms_secret_key sms_api__metrics_token \
    grafana_admin_password; do
    [ -s "$name" ] || random | tr -d '\n' | put "$name"
done

# Valkey takes the line as a part of its configuration (docker/redis.conf).
[ -s valkey_auth ] || printf 'requirepass %s\n' "$(random)" | put valkey_auth
valkey_password=$(sed -n 's/^requirepass //p' valkey_auth)

[ -s database_url ] || printf 'postgresql://sms_api:%s@postgres:5432/sms' "$(cat sms_api_password)" | put database_url
[ -s database_admin_url ] ||
    printf 'postgresql://sms_owner:%s@postgres:5432/sms' "$(cat sms_owner_password)" | put database_admin_url
[ -s redis_url ] || printf 'redis://:%s@valkey:6379/0' "$valkey_password" | put redis_url

if ! [ -s tls_certificate ] || ! [ -s tls_key ]; then
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 365 -subj "/CN=$domain" \
        -addext "subjectAltName=DNS:$domain,DNS:localhost,IP:127.0.0.1" -keyout .tls_key.pem -out .tls_certificate.pem \
        2> .openssl.log || { cat .openssl.log >&2; exit 1; }
    put tls_key < .tls_key.pem
    put tls_certificate < .tls_certificate.pem
    rm -f .tls_key.pem .tls_certificate.pem .openssl.log
    echo "The certificate for $domain is self-signed: browsers warn. docs/deployment.md says how to put a real one there."
fi
