#!/bin/bash
# Ready to train: this node is the leader, and its cloud is healthy and has as many nodes as are expected.
#
# H2O's own probe alone answers 200 on every node while each is still a cloud of one, and for ever when DNS came too
# late. The password, where there is one, goes to curl by standard input, so that no list of processes shows it.
set -euo pipefail

password_file=${PLATFORM_SECRETS_FOLDER:-/run/secrets/platform}/platform_h2o_password
nodes=${H2O_NODE_EXPECTED_COUNT:?is to say how many nodes the cloud has}

fail() {
  echo "$1"
  exit 1
}

login() {
  if [[ -r $password_file ]]; then
    password=$(<"$password_file")
    password=${password//\\/\\\\}
    printf 'user = "platform:%s"\n' "${password//\"/\\\"}"
  fi
}

curl --silent --fail --max-time 3 --output /dev/null \
  "http://127.0.0.1:${H2O_KUBERNETES_API_PORT:-8081}/kubernetes/isLeaderNode" || fail "not the leader"
cloud=$(login | curl --silent --fail --max-time 3 --config - http://127.0.0.1:54321/3/Cloud) ||
  fail "/3/Cloud did not answer; of 401 the password in $password_file is another one"
[[ $cloud =~ \"cloud_size\":$nodes[,}] ]] || fail "the cloud has not $nodes nodes"
[[ $cloud =~ \"cloud_healthy\":true[,}] ]] || fail "the cloud is not healthy"
