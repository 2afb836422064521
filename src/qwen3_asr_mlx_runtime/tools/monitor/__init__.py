"""How a session of the bridge goes, seen from the pipe."""
