// Package dirlock locks a folder, so that only one process uses it at a time.
package dirlock
