# Run a program as a container that is locked up does: unshare --mount --pid --fork bash locked_up.sh ROOT SRC COMMAND...
# ROOT is an empty folder, SRC becomes /src. User 1000, who has no name; a read-only root that holds the system's
# programs, SRC and the folders in KEEP (between colons), and no one's home; a fresh /tmp; no capabilities.
set -euo pipefail
root=$1 src=$2
shift 2
mount --make-rprivate /
mount -t tmpfs -o mode=755 none "$root"

carry() { # FROM TO: the same, but not to be written
  mkdir -p "$root$2"
  mount --bind "$1" "$root$2"
  mount -o remount,bind,ro "$root$2"
}
for folder in bin sbin lib lib64; do
  if [ -L "/$folder" ]; then cp -a "/$folder" "$root/"; elif [ -d "/$folder" ]; then carry "/$folder" "/$folder"; fi
done
carry /usr /usr
carry "$src" /src
IFS=: read -ra kept <<<"$KEEP"
for folder in "${kept[@]}"; do
  [[ $folder = /usr/* ]] || carry "$folder" "$folder"
done
mkdir "$root/etc" "$root/proc" "$root/dev" "$root/tmp"
cp /etc/ld.so.cache "$root/etc/"
: >"$root/etc/passwd"
: >"$root/etc/group"
mount --rbind /dev "$root/dev"
mount -t proc none "$root/proc"
mount -t tmpfs -o mode=1777,noexec,nosuid,nodev none "$root/tmp"
mount -o remount,ro "$root"

cd "$root"
exec chroot "$root" /usr/bin/setpriv --reuid 1000 --regid 0 --clear-groups --inh-caps=-all --bounding-set=-all \
  --no-new-privs /usr/bin/env --chdir=/src "$@"
