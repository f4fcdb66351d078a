package main

import (
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Facts are what the registry knows of the request, by the names that /v1/verify gives them, as text.
type Facts map[string]string

// meet says whether a caveat is known, in its one spelling, and met.
func (facts Facts) meet(name string, args []string) bool {
	form, last, met := forms[name], "", false
	for _, arg := range args {
		if form == nil || len(args) > 64 || !form.MatchString(arg) {
			return false
		}
		place, one := facts.read(name, arg)
		if place <= last { // out of order, twice, or "" for what cannot be read
			return false
		}
		last, met = place, met || one
	}
	return met
}

// read gives an argument's place in the order of its list, and whether the facts meet it. What is not stated does not.
func (facts Facts) read(name, arg string) (place string, met bool) {
	switch name {
	case "time-before":
		_, err := time.Parse(time.RFC3339, arg)
		return name, err == nil && arg < "9999-12-30" && facts["now"] < arg
	case "max-size":
		limit, err := strconv.ParseUint(arg, 10, 64)
		size, unstated := strconv.ParseUint(facts["size"], 10, 64)
		return name, err == nil && unstated == nil && size <= limit
	case "allow":
		action, pattern, _ := strings.Cut(arg, ":")
		prefix, open := strings.CutSuffix(pattern, "*")
		if len(pattern) > 214 {
			return "", false
		}
		pkg := facts["package"]
		reached := pkg == pattern || open && strings.HasPrefix(pkg, prefix) && pkg != prefix
		may := facts["action"] == action || facts["action"] == "read"
		return action + "\x00" + strconv.FormatBool(open) + prefix, reached && may
	case "ip":
		net, err := netip.ParsePrefix(arg)
		if err != nil || net.String() != arg || net != net.Masked() || net.Addr().Is4In6() {
			return "", false
		}
		client, err := netip.ParseAddr(facts["client_ip"])
		place := []byte{byte(net.Addr().BitLen())}
		return string(append(append(place, net.Addr().AsSlice()...), byte(net.Bits()))), err == nil && net.Contains(client.Unmap())
	default:
		value, err := url.PathUnescape(arg)
		if err != nil || !utf8.ValidString(value) {
			return "", false
		}
		return value, value == facts[name]
	}
}
