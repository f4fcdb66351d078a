package main

import (
	"encoding/base64"
	"regexp"
	"strconv"
)

const uuid7 = `([0-9a-f]{8})-([0-9a-f]{4})-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}`

// Which key signed, in which epoch; the moment of issue, in two parts; the provenance.
var identifier = regexp.MustCompile(`^tm1\.([a-z0-9-]{1,32})\.([0-9]+)\.` + uuid7 + `\.([A-Za-z0-9_-]+)$`)

// Secrets are what `trustmint keys export` writes.
type Secrets struct {
	Registry, Prefix, Ecosystem, Codec string
	Epoch                              int
	Keys                               []struct{ Kid, Secret string }
}

// key is what the master key of that name signs with, nil for one that is not known.
func (s Secrets) key(kid, epoch string) []byte {
	for _, key := range s.Keys {
		secret, err := base64.RawURLEncoding.DecodeString(key.Secret)
		if key.Kid == kid && strconv.Itoa(s.Epoch) == epoch && err == nil && len(secret) == 32 {
			return secret
		}
	}
	return nil
}
