# How verdaccio is launched without a plug-in; ../../front/start reads this.
VERDACCIO=${VERDACCIO:-$REGISTRY/../../verdaccio/node_modules/.bin/verdaccio}
source "$REGISTRY/../../verdaccio/launch.sh"
names=("${names[@]/API_KEY_FILE/API_KEY}" UPLOADER EDITOR)
umask 077 # the configuration has the key and the credentials
API_KEY=$(<"$API_KEY_FILE")

# verdaccio's two users have passwords that nobody ever sees, made anew at each start.
credential() {
    "$NODE" -e 'const {createHash, randomBytes} = require("crypto"), [user, file] = process.argv.slice(1);
        const password = randomBytes(32).toString("hex"), digest = createHash("sha1").update(password).digest("base64");
        require("fs").appendFileSync(file, `${user}:{SHA}${digest}\n`);
        process.stdout.write(Buffer.from(`${user}:${password}`).toString("base64"))' "$1" "$DIRECTORY/htpasswd"
}
rm -f "$DIRECTORY/htpasswd"
UPLOADER=$(credential uploader) EDITOR=$(credential editor)

# Ready is when verdaccio lets nobody in who comes around nginx.
answers() {
    "$NODE" -e 'fetch(`http://127.0.0.1:${process.argv[1]}/-/package/any/dist-tags/any`, {method: "DELETE"})
        .then((answer) => process.exit(answer.status === 401 ? 0 : 1), () => process.exit(1))' "$REGISTRY_PORT"
}
