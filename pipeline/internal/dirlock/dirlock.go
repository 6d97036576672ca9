// Package dirlock keeps two processes from using the same folder.
package dirlock
