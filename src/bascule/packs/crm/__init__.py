"""A CRM: contacts and opportunities, leads, customers, orders, sales. A store of its own, or one behind REST."""
