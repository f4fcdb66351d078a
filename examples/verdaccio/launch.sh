# How verdaccio is launched; ../front/start reads this.
#
#   NODE             Node.js 22 or newer                              (node)
#   VERDACCIO        verdaccio's command; `npm ci --ignore-scripts`   (node_modules/.bin/verdaccio beside this file)
NODE=${NODE:-node} VERDACCIO=${VERDACCIO:-$REGISTRY/node_modules/.bin/verdaccio}
names+=(REGISTRY PACKAGES API_KEY_FILE)

check() {
    NODE=$("$NODE" -p process.execPath) || fail "no Node.js: set NODE" # itself, and no wrapper that would outlive it
    "$NODE" -e 'process.exit(parseInt(process.versions.node) < 22 ? 1 : 0)' || fail "$NODE is older than 22: set NODE"
    [ -r "$VERDACCIO" ] || fail "no verdaccio: npm ci --ignore-scripts --prefix $REGISTRY, or set VERDACCIO"
    render "$REGISTRY/config.yaml.template" "$DIRECTORY/config.yaml"
}

launch() { exec "$NODE" "$VERDACCIO" --config "$DIRECTORY/config.yaml"; }

# Ready is when verdaccio refuses a change in the plug-in's words: without the plug-in, it would be another registry.
answers() {
    "$NODE" -e 'fetch(`http://127.0.0.1:${process.argv[1]}/-/package/any/dist-tags/any`, {method: "DELETE"})
        .then((answer) => answer.text(), () => "")
        .then((text) => process.exit(text.includes("no upload token") ? 0 : 1))' "$REGISTRY_PORT"
}
