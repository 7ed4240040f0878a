// Package dcni is the whole house: its test keeps what holds for every package
// in it. README.md says what the house is for, docs/architecture.md how it is built.
package dcni
