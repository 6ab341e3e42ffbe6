package plugin

import "github.com/spf13/pflag"

// lookFlags are the flags of commands that only look.
type lookFlags struct {
	output outputFlag
	all    bool
}

func (f *lookFlags) add(flags *pflag.FlagSet) {
	f.output.add(flags)
	flags.BoolVarP(&f.all, "all-namespaces", "A", false, "Look at all namespaces, which is the default without -n")
}

func (f *lookFlags) validate(s *session) error {
	if f.all && *s.config.Namespace != "" {
		return usagef("-A and -n exclude each other")
	}
	return f.output.validate()
}
