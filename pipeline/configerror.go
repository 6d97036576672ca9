package pipeline

// ConfigError is an error in the configuration of a sink. Field lets a program name the setting in
// its own words, such as those of a flag.
type ConfigError struct {
	Field string // of the sink's Config
	Err   error
}

func (e *ConfigError) Error() string { return "Config." + e.Field + ": " + e.Err.Error() }
func (e *ConfigError) Unwrap() error { return e.Err }
