// The Wycheproof vectors that tests/it/wycheproof.rs runs. `go mod download` checks them against go.sum.
module trustmint/wycheproof

go 1.21

require github.com/c2sp/wycheproof v0.0.0-20260902155932-3fa63dd0344a
