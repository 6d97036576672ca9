package curve

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
	"unicode/utf8"
)

// maxCertificate bounds a certificate file in bytes. Files of CZMQ and pyzmq have a few hundred
// bytes.
const maxCertificate = 64 << 10

// Certificate is the content of a certificate file of CZMQ (zcert) or pyzmq (zmq.auth): a public
// key or a key pair, and metadata that describe it. The format is ZPL (RFC 4) with the sections
// "metadata" and "curve".
type Certificate struct {
	Public Key
	Secret *Secret // nil in the file of a public key
	// Metadata are the properties of the section "metadata", in their order. They are not
	// authenticated.
	Metadata []CertificateProperty
}

// CertificateProperty is one line of a certificate's metadata.
type CertificateProperty struct {
	Name, Value string
}

// Name returns the value of the property "name", empty if there is none.
func (c *Certificate) Name() string {
	for _, p := range c.Metadata {
		if p.Name == "name" {
			return p.Value
		}
	}
	return ""
}

// ParseCertificate parses the text of a certificate file. The public key is required, and a secret
// key must belong to it. Unknown sections and properties are ignored. The error names the line, and
// does not contain any part of a secret key.
func ParseCertificate(text []byte) (Certificate, error) {
	var c Certificate
	if len(text) > maxCertificate {
		return c, fmt.Errorf("certificate of %d bytes, the limit is %d", len(text), maxCertificate)
	}
	var section string
	var hasPublic bool
	number := 0
	for line := range bytes.Lines(text) {
		number++
		fail := func(err error) (Certificate, error) {
			return Certificate{}, fmt.Errorf("certificate, line %d: %w", number, err)
		}
		if !utf8.Valid(line) {
			return fail(errors.New("not UTF-8 text"))
		}
		name, value, indented, err := parseZPL(string(line))
		switch {
		case err != nil:
			return fail(err)
		case name == "":
		case !indented:
			section = name
		case section == "metadata":
			c.Metadata = append(c.Metadata, CertificateProperty{name, value})
		case section == "curve" && name == "public-key":
			if hasPublic {
				return fail(errors.New("a second public-key"))
			}
			if c.Public, err = ParseKey([]byte(value)); err != nil {
				return fail(err)
			}
			hasPublic = true
		case section == "curve" && name == "secret-key":
			if c.Secret != nil {
				return fail(errors.New("a second secret-key"))
			}
			s, err := ParseSecret([]byte(value))
			if err != nil {
				return fail(err)
			}
			c.Secret = &s
		}
	}
	if !hasPublic {
		return Certificate{}, errors.New(`certificate: there is no public-key in a section "curve"`)
	}
	if c.Secret != nil && !c.Secret.Public().Equal(c.Public) {
		return Certificate{},
			errors.New("certificate: the secret key does not belong to the public key")
	}
	return c, nil
}

// parseZPL parses a line of ZPL, "name = value" or "name". The name is empty for a blank line or a
// comment. A value is quoted, or ends at the end of the line or at a # after white space: a #
// without white space may be part of an unquoted Z85 key.
func parseZPL(line string) (name, value string, indented bool, err error) {
	text := strings.TrimSpace(line)
	if text == "" || text[0] == '#' {
		return "", "", false, nil
	}
	indented = line[0] == ' ' || line[0] == '\t'
	name, value, assigned := strings.Cut(text, "=")
	if !assigned {
		name, _, _ = strings.Cut(name, "#")
		return strings.TrimSpace(name), "", indented, nil
	}
	name, value = strings.TrimSpace(name), strings.TrimSpace(value)
	if name == "" {
		return "", "", false, errors.New("a value without a name")
	}
	if value != "" && (value[0] == '"' || value[0] == '\'') {
		quoted, rest, closed := strings.Cut(value[1:], value[:1])
		if rest = strings.TrimSpace(rest); !closed || rest != "" && rest[0] != '#' {
			return "", "", false,
				fmt.Errorf("the value of %.32s is not closed by the quote that opens it",
					name)
		}
		return name, quoted, indented, nil
	}
	for i := 1; i < len(value); i++ {
		if value[i] == '#' && (value[i-1] == ' ' || value[i-1] == '\t') {
			value = strings.TrimSpace(value[:i])
			break
		}
	}
	return name, value, indented, nil
}

// ReadCertificate reads a certificate file. It refuses a file with a secret key that is
// [OpenToOthers].
func ReadCertificate(path string) (Certificate, error) {
	// Open would wait for the writer of a named pipe.
	info, err := os.Stat(path)
	if err != nil {
		return Certificate{}, err
	}
	if !info.Mode().IsRegular() {
		return Certificate{}, fmt.Errorf("%s is not a regular file", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return Certificate{}, err
	}
	defer f.Close()
	if info, err = f.Stat(); err != nil { // of the file that was opened
		return Certificate{}, err
	}
	text, err := io.ReadAll(io.LimitReader(f, maxCertificate+1))
	defer clear(text)
	if err != nil {
		return Certificate{}, err
	}
	c, err := ParseCertificate(text)
	if err != nil {
		return Certificate{}, fmt.Errorf("%s: %w", path, err)
	}
	if c.Secret != nil && OpenToOthers(info) {
		return Certificate{}, fmt.Errorf("%s has a secret key, and others than its owner may"+
			" read or change it (mode %04o): chmod 600 %[1]s", path, info.Mode().Perm())
	}
	return c, nil
}

// WriteFiles writes the public key to the file path and, if there is a secret key, the pair to path
// + "_secret". Only the owner can read the files. It does not replace files, and leaves none behind
// on an error.
func (c *Certificate) WriteFiles(path string, made time.Time) error {
	public, err := c.appendText(nil, "public key. It may be published", nil, made)
	if err != nil {
		return err
	}
	if err := writeNew(path, public); err != nil || c.Secret == nil {
		return err
	}
	secret, err := c.appendText(nil, "secret key. Keep this file to yourself", c.Secret, made)
	defer clear(secret)
	if err == nil {
		err = writeNew(path+"_secret", secret)
	}
	if err != nil {
		return errors.Join(err, os.Remove(path)) // the public key is useless without the secret key
	}
	return nil
}

// appendText appends the text of a certificate file.
func (c *Certificate) appendText(dst []byte, what string, secret *Secret, made time.Time) ([]byte,
	error) {
	dst = fmt.Appendf(dst, "# CURVE %s.\n# Made by zmtpd %s.\n\nmetadata\n", what,
		made.Format(time.RFC3339))
	for _, p := range c.Metadata {
		quote := `"`
		if strings.Contains(p.Value, quote) {
			quote = "'"
		}
		if strings.Contains(p.Value, quote) || strings.ContainsAny(p.Value, "\r\n") ||
			!utf8.ValidString(p.Value) || !isZPLName(p.Name) {
			return nil, fmt.Errorf("certificate: property %q = %q cannot be written in ZPL", p.Name,
				p.Value)
		}
		dst = fmt.Appendf(dst, "    %s = %s%s%[2]s\n", p.Name, quote, p.Value)
	}
	dst = fmt.Appendf(dst, "curve\n    public-key = \"%s\"\n", c.Public)
	if secret != nil {
		dst = fmt.Appendf(dst, "    secret-key = \"%s\"\n", secret.Text())
	}
	return dst, nil
}

// isZPLName reports whether s is a name of RFC 4.
func isZPLName(s string) bool {
	return s != "" && strings.Trim(s,
		"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789$-_@.&+/") == ""
}

// writeNew writes a file that only its owner can read. The file must not exist.
func writeNew(path string, text []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, os.ErrExist) {
		return fmt.Errorf("%w: %s exists and may be in use; choose another name, or move it away",
			os.ErrExist, path)
	}
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, os.Remove(path))
	}
	return nil
}
