#!/bin/sh
# Make a small certificate authority (CA) and certificates of it, with openssl:
#   make-certificates.sh FOLDER HOST...           server.pem and server.key for these host names
#                                                 and addresses; ca.pem and ca.key at first
#   make-certificates.sh FOLDER --client NAME...  NAME.pem and NAME.key of each user, for mTLS
# Repeat the first one before server.pem ends (after a year), then reload the service with SIGHUP.
# Clients get ca.pem. Keep ca.key away from the service: its holder can be any host and user.
set -eu
umask 077

usage() {
  sed -n '2,7s/^# \{0,1\}//p' "$0" >&2
  exit 2
}

[ $# -ge 2 ] || usage
folder=$1
shift
mkdir -p "$folder"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

key() {
  openssl genpkey -quiet -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1"
}

# sign NAME SUBJECT DAYS: sign the key NAME.key with the extensions in $work/extensions.
sign() {
  key "$work/$1.key"
  openssl req -new -key "$work/$1.key" -subj "$2" -out "$work/$1.csr"
  openssl x509 -req -in "$work/$1.csr" -CA "$folder/ca.pem" -CAkey "$folder/ca.key" \
    -set_serial "0x$(openssl rand -hex 16)" -days "$3" -sha256 \
    -extfile "$work/extensions" -out "$work/$1.pem" 2>"$work/log" || {
    cat "$work/log" >&2
    exit 1
  }
  mv "$work/$1.key" "$folder/$1.key"
  mv "$work/$1.pem" "$folder/$1.pem"
  chmod 644 "$folder/$1.pem"
  echo "$folder/$1.pem $folder/$1.key"
}

if [ ! -e "$folder/ca.key" ]; then
  key "$work/ca.key"
  openssl req -x509 -new -key "$work/ca.key" -subj "/CN=dbp CA" -days 3650 -sha256 \
    -addext "basicConstraints=critical,CA:TRUE,pathlen:0" \
    -addext "keyUsage=critical,keyCertSign,cRLSign" -out "$folder/ca.pem"
  chmod 644 "$folder/ca.pem"
  mv "$work/ca.key" "$folder/ca.key"
fi

if [ "$1" = --client ]; then
  shift
  [ $# -ge 1 ] || usage
  for name in "$@"; do
    case $name in
      ca | server | "" | *[!A-Za-z0-9._-]* | .* | -*)
        echo "$name: must be letters, digits, '.', '_' or '-', and not ca or server" >&2
        exit 2
        ;;
    esac
    printf '%s\n' "basicConstraints=critical,CA:FALSE" "keyUsage=critical,digitalSignature" \
      "extendedKeyUsage=clientAuth" >"$work/extensions"
    sign "$name" "/CN=$name" 365
  done
  exit 0
fi

names=
for host in "$@"; do
  case $host in
    "" | -* | *[!A-Za-z0-9.:*-]*)
      echo "$host: must be a host name or an address" >&2
      exit 2
      ;;
    *:*) kind=IP ;;
    *[!0-9.]*) kind=DNS ;;
    *) kind=IP ;;
  esac
  names="$names${names:+,}$kind:$host"
done
printf '%s\n' "basicConstraints=critical,CA:FALSE" "keyUsage=critical,digitalSignature" \
  "extendedKeyUsage=serverAuth" "subjectAltName=$names" >"$work/extensions"
sign server "/CN=$1" 365
