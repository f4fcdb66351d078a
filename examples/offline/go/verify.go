// Verifies trustmint's upload tokens offline, with macaroon.v2. The numbers are those of docs/offline.md.
package main

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"gopkg.in/macaroon.v2"
)

var errToken = errors.New("this is no token of this registry")

// Verify gives the provenance of a token that allows what the facts say.
func Verify(secrets Secrets, token string, facts Facts, now time.Time) (json.RawMessage, error) {
	if !secrets.spelt() {
		return nil, errors.New("this verifier has the names of a Python registry only")
	}
	text, ours := strings.CutPrefix(token, secrets.Prefix) // 1
	raw, err := base64.RawURLEncoding.DecodeString(text)
	var m macaroon.Macaroon
	if !ours || len(text) > 10_923 || err != nil || m.UnmarshalBinary(raw) != nil || m.Version() != macaroon.V2 {
		return nil, errToken
	}
	again, err := m.MarshalBinary() // 2: macaroon.v2 reads other spellings too, and writes one
	id, fields := identifier.FindStringSubmatch(string(m.Id())), [][]byte{[]byte(m.Location()), m.Id()}
	for _, caveat := range m.Caveats() {
		fields = append(fields, caveat.Id)
	}
	bad := func(field []byte) bool { return len(field) == 0 || len(field) > 4096 }
	if err != nil || base64.RawURLEncoding.EncodeToString(again) != text || id == nil || len(fields) > 2+32 ||
		!utf8.ValidString(m.Location()) || slices.ContainsFunc(fields, bad) {
		return nil, errToken
	}
	secret := secrets.key(id[1], id[2])            // 3
	caveats, err := m.VerifySignature(secret, nil) // 4: before any caveat is looked at; no discharges, no third parties
	if secret == nil || err != nil {
		return nil, errToken
	}
	millis, _ := strconv.ParseInt(id[3]+id[4], 16, 64)
	if age := now.Sub(time.UnixMilli(millis)); age < -time.Minute || age >= time.Hour { // 5
		return nil, errors.New("the token is from the future or over an hour old")
	}
	facts = maps.Clone(facts)
	facts["registry"], facts["now"], facts["package"] = secrets.Registry, now.UTC().Format(time.RFC3339), canonical(facts["package"])
	missing := map[string]bool{"registry": true, "time-before": true, "allow": true} // 6
	for _, caveat := range caveats {
		name, args, _ := strings.Cut(caveat, " ")
		if !facts.meet(name, strings.Split(args, ",")) { // 7, 8
			return nil, fmt.Errorf("the caveat %q cannot be read or does not hold", name)
		}
		delete(missing, name)
	}
	if len(missing) > 0 {
		return nil, errors.New("a caveat is missing that every token has")
	}
	return base64.RawURLEncoding.DecodeString(id[5]) // 9
}
