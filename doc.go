// Package dcni is the whole repository: its test keeps what holds for every package.
// README.md says what it is for, docs/architecture.md where what lives.
package dcni
