#!/bin/sh
# Makes etcd's users and roles and switches authentication on; run again, it gives the users the passwords of the files
# anew. By hand, with etcdctl 3.4 or newer:
#
#   ETCDCTL_ENDPOINTS=http://127.0.0.1:2379 sh roles.sh /etc/etcd/passwords
#
# The folder holds one file with one password for each of `root`, `registrar` and `watcher`.
set -eu

passwords=$1

# root's is ignored until authentication is on
ETCDCTL_USER=root:$(cat "$passwords/root")
export ETCDCTL_USER

# $1: a name; what it may do is its role's business
have_role() {
  etcdctl role get "$1" >/dev/null 2>&1 || etcdctl role add "$1"
}
have_user() {
  if ! etcdctl user get "$1" >/dev/null 2>&1; then
    etcdctl user add "$1" --interactive=false <"$passwords/$1"
  elif [ "$1" != root ]; then
    etcdctl user passwd "$1" --interactive=false <"$passwords/$1"
  fi
  etcdctl user grant-role "$1" "$1"
}

# writes the registry's two prefixes (its leader's key lies in the second) and reads in one go from the first to the second;
# three ranges that touch, because etcd would keep one that begins as another does twice when it is granted again
have_role registrar
etcdctl role grant-permission registrar readwrite /dns/ /dns0
etcdctl role grant-permission registrar read /dns0 /elastic-dns/
etcdctl role grant-permission registrar readwrite /elastic-dns/ /elastic-dns0
have_user registrar

# reads the same from end to end, writes nothing
have_role watcher
etcdctl role grant-permission watcher read /dns/ /elastic-dns0
have_user watcher

have_role root
have_user root
etcdctl auth enable
