// Package top shows the numbers of running daemons in a terminal, or once for scripts. Everything
// that a daemon answers is taken for hostile: rows are bounded in number, texts in length, and
// control characters never reach the terminal.
package top
