// Verifies trustmint's upload tokens offline, with macaroon.v2. The numbers are those of docs/offline.md.
package main

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"gopkg.in/macaroon.v2"
)

// Which key signed, in which epoch; the moment of issue, in two parts; the provenance.
var identifier = regexp.MustCompile(`^tm1\.([a-z0-9-]{1,32}\.[0-9]+)\.` +
	`([0-9a-f]{8})-([0-9a-f]{4})-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}\.([\w-]+)$`)

// A caveat's name with one argument, in its one spelling: what is not here refuses. `uses` is not: nobody can count offline.
// The names in `allow` are a Python registry's.
var form = regexp.MustCompile(`^((registry|version) ([!-$&-+\--~]|%([01][0-9A-F]|2[05C]|7F|[89A-F][0-9A-F]))+|sha256 [0-9a-f]{64}|` +
	`max-size (0|[1-9][0-9]*)|time-before [0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z|ip [0-9a-f.:]+/[0-9]+|` +
	`allow [a-z]([a-z-]{0,30}[a-z])?:[a-z0-9]+(-[a-z0-9]+)*(-\*)?)$`)
var legal, separators = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._-]{0,212}[A-Za-z0-9])?$`), regexp.MustCompile(`[-_.]+`)

// Secrets are what `trustmint keys export` writes.
type Secrets struct {
	Registry, Prefix, Ecosystem, Codec string
	Epoch                              int
	Keys                               []struct{ Kid, Secret string }
}

func need(holds bool, reason string) {
	if !holds {
		panic(reason)
	}
}

// read gives an argument's place in the order of its caveat's list, and whether the facts meet it. What is not stated does not.
func read(name, arg string, facts map[string]string, now time.Time) (place string, met bool) {
	switch name {
	case "time-before":
		end, _ := time.Parse(time.RFC3339, arg) // long ago, if there is no such moment
		return name, now.Before(end) && arg < "9999-12-30"
	case "max-size":
		var size, limit uint64
		stated, _ := fmt.Sscan(facts["size"]+" "+arg, &size, &limit)
		return name, stated == 2 && size <= limit
	case "allow":
		action, pattern, _ := strings.Cut(arg, ":")
		need(len(pattern) <= 214, "a package's name is too long")
		reached, _ := path.Match(pattern, facts["package"]) // no name has a `/` or ends in `-`
		return fmt.Sprint(action, "\x00", strings.HasSuffix(arg, "*"), arg), reached && (facts["action"] == action || facts["action"] == "read")
	case "ip":
		net, client := netip.MustParsePrefix(arg), netip.MustParseAddr(facts["client_ip"]).Unmap()
		need(net.Masked().String() == arg && !net.Addr().Is4In6(), "a network is misspelt")
		return fmt.Sprintf("%03d%x%03d", net.Addr().BitLen(), net.Addr().AsSlice(), net.Bits()), net.Contains(client)
	}
	text, err := url.PathUnescape(arg)
	need(err == nil && utf8.ValidString(text), "a caveat is no text")
	return text, text == facts[name]
}

// Verify gives the provenance of a token that allows what the facts say, or why it does not: `refused` is nil only if it does.
// The facts are what the registry knows of the request, by the names that /v1/verify gives them, as text.
func Verify(secrets Secrets, token string, facts map[string]string, now time.Time) (provenance map[string]any, refused any) {
	defer func() { refused = recover() }() // SECURITY: whatever goes wrong, the answer is no
	// Another ecosystem: put its rule of names here, in `legal` and in `form`. With this one, two packages could be one.
	need(secrets.Ecosystem == "pypi" && secrets.Codec == "text", "this verifier has the names of a Python registry only")
	var m macaroon.Macaroon
	text, ours := strings.CutPrefix(token, secrets.Prefix) // 1
	raw, err := base64.RawURLEncoding.DecodeString(text)
	need(ours && len(text) <= 10_923 && err == nil && m.UnmarshalBinary(raw) == nil && m.Version() == macaroon.V2, "this is no token")
	again, err := m.MarshalBinary() // 2: macaroon.v2 reads other spellings too, and writes one
	need(err == nil && base64.RawURLEncoding.EncodeToString(again) == text && len(m.Caveats()) <= 32, "this is no token")
	fits := func(field string) bool { return field != "" && len(field) <= 4096 && utf8.ValidString(field) }
	id := identifier.FindStringSubmatch(string(m.Id())) // 3
	need(fits(m.Location()) && fits(string(m.Id())) && id != nil, "this is no token")
	at := slices.IndexFunc(secrets.Keys, func(k struct{ Kid, Secret string }) bool { return id[1] == fmt.Sprint(k.Kid, ".", secrets.Epoch) })
	need(at >= 0, "this token is not signed for this registry")
	secret, _ := base64.RawURLEncoding.DecodeString(secrets.Keys[at].Secret)
	caveats, err := m.VerifySignature(secret, nil) // 4: before any caveat is looked at; no discharges, no third parties
	need(err == nil && len(secret) == 32, "this token is not signed for this registry")
	issued, hex := id[2]+id[3], func(at time.Time) string { return fmt.Sprintf("%012x", at.UnixMilli()) }
	need(issued > hex(now.Add(-time.Hour)) && issued <= hex(now.Add(time.Minute)), "the token is from the future or over an hour old") // 5
	// The one spelling of a package's name is the registry's own business. This is Python's (PEP 503); what is no name is none.
	facts, name := maps.Clone(facts), strings.ToLower(separators.ReplaceAllString(legal.FindString(facts["package"]), "-"))
	facts["registry"], facts["package"] = secrets.Registry, name
	names := map[string]bool{}
	for _, caveat := range caveats { // 7, 8
		name, args, _ := strings.Cut(caveat, " ")
		last, met, reason := "", false, fmt.Sprintf("the caveat %q cannot be read or does not hold", name)
		for _, arg := range strings.Split(args, ",") {
			need(form.MatchString(name+" "+arg), reason)
			place, one := read(name, arg, facts, now)
			need(place > last, reason)
			last, met = place, met || one
		}
		need(met && fits(caveat) && strings.Count(args, ",") < 64, reason)
		names[name] = true
	}
	need(names["registry"] && names["time-before"] && names["allow"], "a caveat is missing that every token has") // 6
	signed, _ := base64.RawURLEncoding.DecodeString(id[4])                                                        // 9
	need(json.Unmarshal(signed, &provenance) == nil, "the provenance cannot be read")
	return provenance, nil
}
