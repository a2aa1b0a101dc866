#!/usr/bin/env bash
# A newcomer's first hour on a bare machine: in a fresh minimal Debian 12 (debootstrap), from a clean
# clone of HEAD, scripts/quickstart.sh must end in an answer and scripts/test.sh must pass.
#
#   tests/acceptance/foundation-bare-debian.sh [--quick] [--keep] [--mirror URL]
#
# The mirror, the apt settings (proxies too) and the CA certificates are those of this machine. Nothing
# else of it is visible inside. Prints the two times last. Needs root, debootstrap and 6 GB of disk;
# 8 minutes on 2 idle cores. --quick only asks apt whether every package of the scripts exists.
set -euo pipefail
repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
. "$repository/scripts/lib/packages.sh"
release=bookworm

skip() { echo "skipped: $*"; exit 77; }

quick_check() {
  command -v apt-get >/dev/null || skip "apt-get is not here, so package names cannot be looked up"
  compgen -G '/var/lib/apt/lists/*Packages*' >/dev/null ||
    skip "apt has no package lists here; run apt-get update first"
  local set names
  for set in build test fuzz bench lint; do
    mapfile -t names < <(packages_of "$set")
    if ! apt-get install --simulate --no-install-recommends "${names[@]}" >/dev/null; then
      echo "apt cannot install the package set '$set': ${names[*]}"
      return 1
    fi
    echo "apt resolves the package set '$set' (${#names[@]} packages)"
  done
}

# sources: this machine's Debian sources for $release, as lines for a sources.list.
sources() {
  apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT) $(ORIGIN)' \
    'Created-By: Packages' 2>/dev/null |
    awk -v r="$release" '$4 == "Debian" && $3 == "main" && $2 ~ "^" r "(-updates|-security|/updates)?$" {
      print "deb", $1, $2, $3 }' | sort -u
}

# make_root DIRECTORY MIRROR: the bare system.
make_root() {
  local bare=$1 mirror=$2 file
  debootstrap --variant=minbase "$release" "$bare" "$mirror" >"$bare.log" 2>&1 ||
    { tail -n 30 "$bare.log"; echo "debootstrap failed (mirror $mirror)"; return 1; }
  sources >"$bare/etc/apt/sources.list"
  [ -s "$bare/etc/apt/sources.list" ] ||
    echo "deb $mirror $release main" >"$bare/etc/apt/sources.list"
  apt-config dump | grep -E '^Acquire::(.*[Pp]roxy|.*::CaInfo|.*::CaPath|Check-|.*Verify-)' \
    >"$bare/etc/apt/apt.conf.d/90host" || true
  for file in /etc/apt/auth.conf /etc/apt/auth.conf.d /etc/hosts; do
    [ ! -e "$file" ] || cp -a "$file" "$bare$(dirname "$file")/"
  done
  cp -L /etc/resolv.conf "$bare/etc/resolv.conf"
  if [ -e /etc/ssl/certs/ca-certificates.crt ]; then
    mkdir -p "$bare/etc/ssl/certs"
    cp -L /etc/ssl/certs/ca-certificates.crt "$bare/etc/ssl/certs/"
  fi
}

# mount_root DIRECTORY: /proc and a /dev of its own (removing the root can never touch this machine's).
mount_root() {
  local bare=$1 device
  mount -t proc proc "$bare/proc"
  mount -t tmpfs -o mode=755 tmpfs "$bare/dev"
  for device in null zero full random urandom tty; do
    touch "$bare/dev/$device"
    mount --bind "/dev/$device" "$bare/dev/$device"
  done
  ln -s /proc/self/fd "$bare/dev/fd"
  mkdir -m 1777 "$bare/dev/shm"
  mkdir "$bare/dev/pts"
  mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts "$bare/dev/pts"
  ln -s pts/ptmx "$bare/dev/ptmx"
}

in_root() {
  local variables=(PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 TERM=dumb) name
  for name in http_proxy https_proxy no_proxy; do
    [ -z "${!name:-}" ] || variables+=("$name=${!name}")
  done
  chroot "$bare" /usr/bin/env -i "${variables[@]}" "$@" </dev/null
}

clean_up() {
  # Recursive and lazy: a process left inside must not keep a mount alive.
  umount -R -l "$bare/dev" "$bare/proc" 2>/dev/null || true
  if [ "$keep" = yes ]; then
    echo "kept: $bare"
  elif ! grep -q " $bare/" /proc/self/mounts; then
    rm -rf --one-file-system "$bare" "$bare.log"
  fi
}

keep=no mirror=
while [ $# -gt 0 ]; do
  case "$1" in
    --quick) quick_check; exit ;;
    --keep) keep=yes ;;
    --mirror) mirror=${2:?--mirror needs a URL}; shift ;;
    *) echo "usage: $0 [--quick] [--keep] [--mirror URL]"; exit 2 ;;
  esac
  shift
done
[ "$(id -u)" -eq 0 ] || skip "needs root for debootstrap and chroot"
command -v debootstrap >/dev/null || skip "debootstrap is not installed"
command -v git >/dev/null || skip "git is not installed"
[ -n "$mirror" ] || mirror=$(sources | awk -v r="$release" '$3 == r { print $2; exit }')
[ -n "$mirror" ] || skip "this machine's apt has no mirror of Debian $release; pass --mirror URL"
# In a mount namespace of its own: whatever happens, the mounts end with this script.
if [ -z "${FATHOM_BARE_NAMESPACE:-}" ]; then
  again=(--mirror "$mirror")
  [ "$keep" = no ] || again+=(--keep)
  FATHOM_BARE_NAMESPACE=1 exec unshare --mount --propagation private \
    bash "${BASH_SOURCE[0]}" "${again[@]}"
fi

bare=$(mktemp -d "${TMPDIR:-/tmp}/fathom-bare.XXXXXX")
chmod 755 "$bare"  # apt drops to an unprivileged user, who must be able to enter
trap clean_up EXIT
trap 'exit 130' INT TERM HUP
echo "making a bare Debian $release in $bare"
make_root "$bare" "$mirror"
mount_root "$bare"
git clone -q --depth 1 "file://$repository" "$bare/root/fathom"
echo "commit $(git -C "$repository" log -1 --format='%h %s')"

# run_timed VARIABLE COMMAND...: stores the seconds COMMAND took, or ends the test.
run_timed() {
  local -n seconds=$1
  local begin=$SECONDS
  shift
  printf '\n== in the bare system: %s\n' "$*"
  in_root "$@" || { echo "FAILED after $((SECONDS - begin)) s: $*"; exit 1; }
  seconds=$((SECONDS - begin))
}
run_timed quickstart_seconds /root/fathom/scripts/quickstart.sh
run_timed test_seconds /root/fathom/scripts/test.sh
echo
echo "quickstart $quickstart_seconds s, test $test_seconds s"
